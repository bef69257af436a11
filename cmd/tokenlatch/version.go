package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
)

// built says what this program is, in JSON: docs/json/version.schema.json.
type built struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func build() built {
	b := built{"(unknown)", runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	return b
}

func versionText() string {
	b := build()
	return fmt.Sprintf("tokenlatch %s %s %s/%s", b.Version, b.Go, b.OS, b.Arch)
}

func newVersion(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Example: "tokenlatch version --json",
		Annotations: map[string]string{cli.Globals: "json jsonl"}, Args: named(),
		RunE: func(*cobra.Command, []string) error {
			if g.asJSON() {
				return g.object(build())
			}
			return g.text(versionText() + "\n")
		},
	}
}
