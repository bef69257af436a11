// Package board is the live view of grants on a terminal. It knows no Redis: rows and events are sent to it.
// It reads keys, and takes no mouse.
package board
