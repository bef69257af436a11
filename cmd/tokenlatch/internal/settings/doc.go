// Package settings reads the file that configures apps for the commands that need to act as a worker.
//
//	keyset: {file: keyset.json}
//	apps:
//	  zoom:
//	    provider: zoom
//	    token_url: https://zoom.us/oauth/token
//	    client_id: abc
//	    client_secret: {env: ZOOM_SECRET}
//
// No secret stands in the file: it names a file or an environment variable. An error names the line, and
// quotes no value.
package settings
