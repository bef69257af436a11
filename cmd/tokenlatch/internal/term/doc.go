// Package term draws on terminals: lines of text with colour, and whole screens. What has no terminal
// gets the same text without escapes.
package term
