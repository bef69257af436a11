// Package cli holds what the commands share when they talk to people and shells: exit codes, flags,
// tones, and how the address of a Redis is given without showing its password.
package cli
