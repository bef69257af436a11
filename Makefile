STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: test bench lint demo

# All tests, on real Redis: REDIS_ADDR, or the server binary in REDIS_SERVER, or a
# redis-server on PATH, or one that integration/with-redis gets for them. The race detector needs a C compiler.
test:
	integration/with-redis go test -race -count=1 -parallel 4 -timeout 20m ./...

# All benchmarks, one package after the other, and their results as a markdown table.
bench:
	integration/with-redis bash -o pipefail -c \
		"go test -run '^$$' -bench . -benchtime 3s -p 1 -timeout 10m ./tokencache ./refresh ./integration | integration/bench-table"

lint:
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff

demo:
	go run ./cmd/tokenlatch demo
