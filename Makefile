STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help demo test lint bench chaos alerts interop

# The targets, each with the line that follows its ##.
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

# All tests, on real Redis: REDIS_ADDR, or the server binary in REDIS_SERVER, or a
# redis-server on PATH, or one that integration/with-redis gets for them. The race detector needs a C compiler.
# NO_INSTALL=1 keeps it from installing a Redis. The two packages that take longest begin first.
test: ## all tests, with the race detector, on a real Redis (REDIS_ADDR, REDIS_SERVER, NO_INSTALL=1)
	integration/with-redis go test -race -count=1 -parallel 6 -timeout 20m ./refresh ./integration ./...

# The chaos test for as long as FOR says, in rounds of about half a minute. Each prints its seed;
# `make chaos FOR=1m SEED=… VARIANT=…` begins with that round again.
FOR ?= 10m
chaos: ## random faults, then the promises are checked (FOR=10m, SEED=…, VARIANT=…)
	CHAOS_FOR=$(FOR) CHAOS_SEED=$(SEED) CHAOS_VARIANT=$(VARIANT) integration/with-redis \
		go test -race -count=1 -run '^TestChaos$$' -v -timeout 0 ./integration

# Fleets against authorization servers that nobody here wrote: a module of its own, which only this builds.
interop: ## fleets against foreign authorization servers, on a real Redis
	cd integration/interop && ../with-redis go test -tags interop -race -count=1 -timeout 10m ./...

# All benchmarks, one package after the other, and their results as a markdown table.
bench: ## all benchmarks, as a markdown table
	integration/with-redis bash -o pipefail -c \
		"go test -run '^$$' -bench . -benchtime 3s -p 1 -timeout 10m ./tokencache/... ./refresh ./integration | integration/bench-table"

lint: ## gofmt, go vet, staticcheck, go.mod
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff

alerts: ## the alerts of docs/ops, against their tests (PROMTOOL)
	integration/with-promtool test rules docs/ops/alerts_test.yaml

demo: ## worker processes, webhook storms and killed holders; needs nothing installed
	go run ./cmd/tokenlatch demo
