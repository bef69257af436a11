// Package cli is what the commands have in common in talking to people and shells: exit codes, flags,
// tones, and where a Redis is named without showing its password.
package cli
