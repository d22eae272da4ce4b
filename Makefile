# Run "make help" for the list of targets.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
# "check" has an order: the clean tree is looked at last.
.NOTPARALLEL:
.DEFAULT_GOAL := help

GO          ?= go
# Tools are pinned here, not in go.mod: they are no part of what is built.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
NFPM        := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0
CYCLONEDX   := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0
BENCHSTAT   := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

COUNT       ?= 6
BENCH       ?= .
FUZZTIME    ?= 30s
SOAK        ?= 1h
# Ordinary tests that do more with the tag "slow".
GROWN       := TestModel|TestRandomModules|TestKernelsStopAnywhere|TestStopEverywhere

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

.PHONY: build
build: ## build ./perdure
	$(GO) build -o perdure .

.PHONY: test
test: ## the fast tests: offline, unprivileged, no tool but Go
	$(GO) test ./...

.PHONY: slow
slow: ## the long tests, and those that do more when they may take long
	@list="$$(grep -rl --include='*_test.go' '^//go:build slow' . | xargs sed -n 's/^func \(Test[A-Za-z0-9_]*\)(.*/\1/p' | paste -sd'|')"; \
	set -x; $(GO) test -tags slow -timeout 40m -run "^($$list|$(GROWN))$$" ./...

.PHONY: check
check: fmt vet lint deps tidy race clean-tree ## all that must be green before a commit; stage your changes first
	@echo "check: ok"

.PHONY: fmt
fmt: ## gofmt would change nothing
	@files=$$(gofmt -l .); if [ -n "$$files" ]; then echo "gofmt would change:"; echo "$$files"; exit 1; fi

.PHONY: vet
vet: ## go vet, with and without the slow tests
	$(GO) vet ./...
	$(GO) vet -tags slow ./...

.PHONY: lint
lint: ## staticcheck, pinned; settings in staticcheck.conf
	$(GO) run $(STATICCHECK) -tags slow ./...

.PHONY: deps
deps: ## import table, dependencies and the shape of the tree
	$(GO) test -count=1 -run '^TestTree' .

.PHONY: tidy
tidy: ## go.mod and go.sum are as "go mod tidy" would leave them
	$(GO) mod tidy -diff
	$(GO) mod verify

# Tests in which nothing runs beside anything else and which take most of the time under the race detector: sweeps over
# a file system in memory, one call behind the other, and modules with much work for one worker.
SEQUENTIAL  := TestWhatIsLeftOfPurgedGenerationsIsMoved|TestACrashAtAnyCallOfAPurge|TestPurgeFreesExactlyWhatNobodyNeeds|$\
	TestDamageAndThenAPurge|TestAPurgeThatFailsAtAnyCall|TestARepairThatFailsOrCrashesAtAnyCall|TestCopiesAreBounded|$\
	TestHostileModules

# Packages of which the same is true.
ONE_BY_ONE  := /(spectest|wasm|guests)$$

.PHONY: race
race: ## the fast tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 30m -skip '^($(SEQUENTIAL))$$' $$($(GO) list ./... | grep -vE '$(ONE_BY_ONE)')

.PHONY: clean-tree
clean-tree: ## nothing unstaged, nothing untracked
	@git diff --exit-code
	@files=$$(git ls-files --others --exclude-standard); if [ -n "$$files" ]; then echo "neither tracked nor ignored:"; echo "$$files"; exit 1; fi

.PHONY: bench
bench: ## benchmarks into bench.txt; BENCH=regexp, COUNT=6
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(COUNT) -timeout 0 ./... | tee bench.txt

.PHONY: benchmarks
benchmarks: ## measure this machine anew for docs/BENCHMARKS.md; some minutes, and it should have no other work
	@mkdir -p build
	$(GO) build -o build/perdure .
	build/perdure bench --vs redis,criu,asyncify --markdown --svg docs/benchmarks.svg $(BENCHMARKS) >build/benchmarks.md
	sed -i -e '/<!-- results -->/,/<!-- end of results -->/{//!d}' -e '/<!-- results -->/r build/benchmarks.md' docs/BENCHMARKS.md

.PHONY: benchstat
benchstat: ## compare two runs: make benchstat OLD=bench-old.txt NEW=bench.txt
	$(GO) run $(BENCHSTAT) $(OLD) $(NEW)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=30s
	@for pkg in $$($(GO) list ./...); do \
	  list=$$($(GO) test -list '^Fuzz' "$$pkg"); \
	  for target in $$(grep '^Fuzz' <<<"$$list" || true); do \
	    echo "== $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
	  done; \
	done

.PHONY: soak
soak: ## the soak tests for SOAK=1h
	PERDURE_SOAK=$(SOAK) $(GO) test -tags slow -count=1 -timeout 0 -v -run '^TestSoak' ./...

.PHONY: deb
deb: ## the Debian package, into build/
	NFPM=$(NFPM) bash packaging/deb.sh

.PHONY: release
release: ## binaries, packages, bill of materials and checksums of a clean tree, into build/release/
	NFPM=$(NFPM) CYCLONEDX=$(CYCLONEDX) bash packaging/release.sh build/release

.PHONY: release-check
release-check: ## build the release twice, in two places and with nothing cached, and compare; some minutes
	NFPM=$(NFPM) CYCLONEDX=$(CYCLONEDX) bash packaging/release-check.sh

.PHONY: systemd
systemd: deb ## install, upgrade, reboot and remove that package under a real systemd; needs Debian and root
	bash packaging/test/systemd.sh

.PHONY: redis
redis: ## the key-value guest against Redis, by redis-benchmark; installs them where it may
	@command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null || \
	  { apt-get update -qq && apt-get install -y --no-install-recommends redis-server redis-tools; }
	$(GO) test -tags slow -run '^$$' -bench Redis -benchtime 1x -timeout 0 .

.PHONY: guests
guests: ## rebuild the guest programs of testdata/guests; installs compilers where it may
	bash testdata/guests/build.sh
