package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/tokenlatch/tokenlatch/cmd/tokenlatch/internal/cli"
	"github.com/tokenlatch/tokenlatch/refresh"
)

// worker is one process of the fleet. Each webhook asks for its tenant's token and
// calls the API with it.
type worker struct {
	setup  setup
	tokens tokens
	api    *http.Transport
	diary  *diary
	calls  sync.WaitGroup
}

// RunWorker lives until its stdin ends: it does not outlive its parent.
func RunWorker(_ []string, stdout, stderr io.Writer) int {
	// The parent ends its workers. A Ctrl-C goes to the whole process group.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	in := json.NewDecoder(os.Stdin)
	var s setup
	if err := in.Decode(&s); err != nil {
		fmt.Fprintln(stderr, "tokenlatch demo-worker: is started by tokenlatch demo only")
		return cli.ExitUsage
	}
	w, err := newWorker(s)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return cli.ExitFailed
	}
	return w.serve(in, json.NewEncoder(stdout))
}

func newWorker(s setup) (*worker, error) {
	open := newCoordinated
	if s.Naive {
		open = newNaive
	}
	t, err := open(s)
	if err != nil {
		return nil, err
	}
	return &worker{
		setup: s, tokens: t, diary: newDiary(),
		api: &http.Transport{MaxConnsPerHost: 16, MaxIdleConnsPerHost: 16},
	}, nil
}

func (w *worker) serve(in *json.Decoder, out *json.Encoder) int {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		w.diary.tell(out, stop)
	}()
	for {
		var o order
		if in.Decode(&o) != nil {
			return cli.ExitFailed // the parent is gone
		}
		if o.End {
			break
		}
		w.storm(o)
	}
	go exitWithParent(in)
	w.calls.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = w.tokens.close(ctx)
	close(stop)
	<-stopped
	return cli.ExitOK
}

func exitWithParent(in *json.Decoder) {
	var o order
	if in.Decode(&o) != nil {
		os.Exit(cli.ExitFailed)
	}
}

// storm lets webhooks come in within the spread.
func (w *worker) storm(o order) {
	for range o.Webhooks {
		w.calls.Go(func() {
			if o.SpreadMS > 0 {
				time.Sleep(rand.N(time.Duration(o.SpreadMS) * time.Millisecond))
			}
			w.webhook(o.Tenant)
		})
	}
}

func (w *worker) webhook(tenant string) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	w.diary.waits(tenant)
	start := time.Now()
	token, err := w.tokens.token(ctx, tenant)
	waited := time.Since(start)
	if err == nil {
		err = w.call(ctx, tenant, token)
	}
	w.diary.finish(tenant, waited, err)
}

// call calls the API for the tenant.
func (w *worker) call(ctx context.Context, tenant, token string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.setup.APIURL+"meetings", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: w.tokens.transport(tenant, token, w.api)}
	resp, err := client.Do(req)
	var refused *refresh.Error
	switch {
	case errors.As(err, &refused):
		return err
	case err != nil:
		return errAPI
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode == http.StatusUnauthorized {
		return errUnauthorized
	}
	return nil
}
