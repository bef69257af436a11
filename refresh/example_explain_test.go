package refresh_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tokenlatch/tokenlatch/refresh"
	"github.com/tokenlatch/tokenlatch/refresh/explain"
	"github.com/tokenlatch/tokenlatch/refresh/refreshtest"
)

// A customer writes that nothing works any more. What does the person on call answer?
func ExampleCoordinator_Explain() {
	ctx := context.Background()
	server, err := refreshtest.New(refreshtest.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb, stopRedis := embeddedRedis()
	defer stopRedis()
	tokens := eventfulWorker(server, rdb, func(refresh.Event) {})
	defer tokens.Close(ctx)

	if err := tokens.Connect(ctx, "acme", server.Grant("acme")); err != nil {
		log.Fatal(err)
	}
	server.Revoke("acme") // the admin removes the app
	_ = tokens.Refresh(ctx, "acme")

	e, err := tokens.Explain(ctx, "acme")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Code, e.Level, "-", e.Who, "acts")
	fmt.Println("do:", e.Do[0].Text)
	fmt.Println("then:", e.Do[1].Command)
	fmt.Println("to the customer:", e.ForTenant)
	page, _ := explain.Page(e.Code)
	fmt.Println(page[:len("## TL301 refused")])
	// Output:
	// TL301 error - tenant acts
	// do: send the customer to your consent page
	// then: tokenlatch journal -f zoom acme
	// to the customer: The connection to your account has ended. Please connect your account again.
	// ## TL301 refused
}
