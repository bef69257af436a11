package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/integration/redistest"
)

func TestTheExporterServesUntilItIsEnded(t *testing.T) {
	t.Parallel()
	server := redistest.Own(t)
	tell(t, server.Client(t))
	ctx, end := context.WithCancel(t.Context())
	defer end()
	talk, says := io.Pipe()
	defer says.Close()
	code := make(chan int, 1)
	go func() {
		code <- runCtx(ctx, []string{"exporter", "--redis", server.Addr(), "--listen", "127.0.0.1:0"}, io.Discard, says)
		says.Close()
	}()
	lines := bufio.NewScanner(talk)
	lines.Scan()
	url := lines.Text()
	go func() {
		for lines.Scan() { // the exporter must not wait for its reader
		}
	}()
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Fatalf("said %q", url)
	}
	found := false
	for !found {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || t.Context().Err() != nil {
			t.Fatal(resp.Status, err)
		}
		found = strings.Contains(string(body), `tokenlatch_fleet_grants{app="zoom",state="reauthorize"} 3`)
		if strings.Contains(string(body), canary) || strings.Contains(string(body), "silent") {
			t.Fatalf("a token or a tenant: %s", body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	end()
	if got := <-code; got != cli.ExitOK {
		t.Errorf("code %d", got)
	}
	if n := server.Client(t).Exists(context.Background(), "tl:exporter").Val(); n != 0 {
		t.Error("the lease is not given back")
	}
}
