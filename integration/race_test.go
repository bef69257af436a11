//go:build race

package integration

var builtWith = []string{"-race"}
