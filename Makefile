# wsgate: targets for people and for CI. `make help` lists them.
GO      ?= go
TOOL    := $(GO) tool -modfile=internal/tools/go.mod
FUZZ    ?= 60s
SOAK    ?= 200

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## run the gateway with a backend inside: https://localhost:8443/
	$(GO) run ./cmd/wsgate demo

build: ## build bin/wsgate, bin/wsload and bin/wsconform
	$(GO) build -trimpath -o bin/ ./cmd/wsgate ./cmd/wsload ./cmd/wsconform

test: test-go test-real ## all tests; WSGATE_REAL=0 leaves test-real out and says so
	@if [ "$(WSGATE_REAL)" = 0 ]; then echo "make test: test-real was left out (WSGATE_REAL=0)"; else echo "make test: all tests ran"; fi

test-go: ## unit, engine and end-to-end tests with -race, and h2spec: Go modules and a C compiler
	@command -v "$${CC:-gcc}" >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq gcc libc6-dev >/dev/null; } || { echo "test-go: gcc is missing, which the race detector needs, and cannot be installed without root: apt-get install gcc libc6-dev"; exit 1; }
	$(GO) test -race -count=1 -timeout 20m -skip '^TestMutants$$' $$($(GO) list ./... | grep -v internal/real)
	$(GO) test -count=1 -timeout 20m -run '^TestMutants$$' ./internal/e2e
	$(GO) test -count=1 -v -run TestH2spec ./internal/e2e

soak: ## the conformance suite SOAK=200 times against wsgate, some 40 minutes: not one flake
	$(GO) test -count=$(SOAK) -failfast -timeout 6h -run '^TestConformance$$' ./internal/e2e

test-real: ## browsers and foreign clients and servers: installs what it needs
	@if [ "$(WSGATE_REAL)" = 0 ]; then echo "test-real: left out"; else ./internal/real/install.sh && $(GO) test -count=1 -v ./internal/real; fi

perf: bench-tools ## beside nghttpx, under 3 minutes; exit 1 if a target is missed
	GO="$(GO)" ./internal/bench/install.sh nghttpx
	bin/bench -suite perf

bench: bench-tools ## beside haproxy, nghttpx, caddy and nginx: table and plots into docs/performance.md
	GO="$(GO)" ./internal/bench/install.sh
	bin/bench -suite full -results bin/bench.jsonl -docs docs

bench-quick: bench-tools ## the same in little, under 3 minutes
	GO="$(GO)" ./internal/bench/install.sh haproxy nghttpx caddy
	bin/bench -suite quick

bench-scale: bench-tools ## as many idle tunnels as descriptors allow, and what they cost
	bin/bench -suite scale
	$(GO) test ./internal/bench -run '^$$' -bench Million -benchtime 20x

bench-tools:
	$(GO) build -trimpath -o bin/ ./cmd/wsgate ./cmd/wsload ./internal/bench

fuzz: ## every fuzz target for FUZZ=60s
	FUZZ=$(FUZZ) GO="$(GO)" ./internal/fuzz.sh

check: ## what CI asks of the code before the tests: format, vet, staticcheck, other systems
	@out="$$($(TOOL) gofumpt -l .)"; if [ -n "$$out" ]; then echo "gofumpt would change:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: help demo build test test-go soak test-real perf bench bench-quick bench-scale bench-tools fuzz check
