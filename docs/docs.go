// Package docs has the pages of this directory, so that the command can print them where there is no copy of the source.
package docs

import "embed"

// Files are the pages, the runbook of the alerts, and the schemas of the command's JSON.
//
//go:embed *.md ops/runbook.md json/*.schema.json
var Files embed.FS
