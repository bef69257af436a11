package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Annotations of a command.
const (
	// Globals names the global flags that a command takes, with spaces between. No annotation: all.
	Globals = "globals"
	// Tail is what its help says at the end.
	Tail = "tail"
)

// Takes reports whether a command takes a global flag. Each takes those about colour and talk.
func Takes(cmd *cobra.Command, flag string) bool {
	names, limited := cmd.Annotations[Globals]
	own := strings.Fields(names + " no-color quiet help version")
	if !limited {
		return true
	}
	for _, name := range own {
		if name == flag {
			return true
		}
	}
	return false
}

// Help prints a command's help, 80 columns wide.
func Help(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	if cmd.IsAdditionalHelpTopicCommand() {
		fmt.Fprintln(w, strings.TrimSpace(cmd.Long))
		return
	}
	if !cmd.HasParent() {
		fmt.Fprintln(w, strings.TrimSpace(cmd.Long)+"\n\nusage: tokenlatch <command> [flags]\n")
		list(w, cmd)
		fmt.Fprintln(w, "\ntokenlatch <command> -h lists a command's flags.")
		return
	}
	fmt.Fprintf(w, "usage: %s\n", cmd.UseLine())
	for _, text := range []string{cmd.Long, examples(cmd.Example)} {
		if text != "" {
			fmt.Fprintf(w, "\n%s\n", strings.Trim(text, "\n"))
		}
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintln(w, "\ncommands:")
		for _, c := range cmd.Commands() {
			fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	if help := cmd.Flags().Lookup("help"); help != nil {
		help.Hidden = true // its reader has found it
	}
	printFlags(w, "flags", cmd.LocalNonPersistentFlags())
	global := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if Takes(cmd, f.Name) && cmd.LocalNonPersistentFlags().Lookup(f.Name) == nil {
			global.AddFlag(f)
		}
	})
	printFlags(w, "global flags", global)
	if tail := cmd.Annotations[Tail]; tail != "" {
		fmt.Fprintf(w, "\n%s\n", strings.Trim(tail, "\n"))
	}
}

func examples(text string) string {
	if text == "" {
		return ""
	}
	return "examples:\n  " + strings.ReplaceAll(strings.Trim(text, "\n"), "\n", "\n  ")
}

func printFlags(w io.Writer, title string, fs *pflag.FlagSet) {
	if fs.HasAvailableFlags() {
		fmt.Fprintf(w, "\n%s:\n", title)
		PrintFlags(w, fs)
	}
}

// list lists the commands, and then the topics.
func list(w io.Writer, root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	fmt.Fprint(w, "\ntokenlatch help <topic>:\n\n")
	for _, c := range root.Commands() {
		if c.IsAdditionalHelpTopicCommand() {
			fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
}
