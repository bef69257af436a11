package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "print a script that completes commands and flags",
		Long: "Print a completion script for one of these shells: " + strings.Join(shells, ", ") + ".",
		Example: `source <(tokenlatch completion bash)          # in ~/.bashrc
tokenlatch completion zsh > "${fpath[1]}/_tokenlatch"
tokenlatch completion fish > ~/.config/fish/completions/tokenlatch.fish`,
		Annotations: map[string]string{cli.Globals: ""}, ValidArgs: shells, Args: named("SHELL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, w := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(w, true)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(w)
			}
			return cli.Usage(fmt.Errorf("%q is not known; there are: %s", args[0], strings.Join(shells, ", ")))
		},
	}
}
