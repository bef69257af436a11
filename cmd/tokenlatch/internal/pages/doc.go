// Package pages finds and shows what is in docs/: whole pages, sections of them, and tables. It knows no command.
package pages
