// Package oncall says in words, and in JSON, what an Inspector reads: what state a grant is in for
// people on call, since when, why, and who must act.
package oncall
