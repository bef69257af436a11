package refreshtest_test

import (
	"context"
	"fmt"
	"log"

	"golang.org/x/oauth2"

	"github.com/tokenlatch/tokenlatch/refresh/provider"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// Two workers that know nothing of each other refresh the same grant.
func Example() {
	server, err := refreshtest.New(refreshtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	pair := server.Grant("acme")
	for range 2 {
		stale := &oauth2.Token{RefreshToken: pair.RefreshToken}
		_, _ = server.OAuth2Config().TokenSource(context.Background(), stale).Token()
	}

	ledger := server.Ledger()
	for _, p := range ledger {
		fmt.Printf("%s, generation %d: %s\n", p.Tenant, p.Generation, p.Outcome)
	}
	_, living := server.Living("acme")
	fmt.Println("violations:", len(ledger.Violations(provider.Profile{})), "- acme is still connected:", living)
	// Output:
	// acme, generation 1: rotated
	// acme, generation 1: family revoked
	// violations: 1 - acme is still connected: false
}

// The answer is lost after the server has spent the old token: no retry can
// tell, and the one living pair is known to nobody.
func ExampleServer_Script() {
	server, err := refreshtest.New(refreshtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	pair := server.Grant("acme")
	server.Script(refreshtest.Step{At: refreshtest.AfterCommit, Fault: refreshtest.Drop})
	_, err = server.OAuth2Config().TokenSource(context.Background(), &oauth2.Token{RefreshToken: pair.RefreshToken}).Token()

	p := server.Ledger()[0]
	fmt.Println("client has a token:", err == nil)
	fmt.Println("server:", p.Outcome, "- answer lost by", p.Fault)
	// Output:
	// client has a token: false
	// server: rotated - answer lost by drop
}
