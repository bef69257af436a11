// Package term draws on terminals: lines of text with colour, and whole screens. A writer that is
// no terminal gets the same text without escapes.
package term
