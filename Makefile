# Everything is built in one target directory with one profile (dev, optimized:
# see Cargo.toml), so that no target here builds what another has built.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# cargo uses all cores by itself.
.NOTPARALLEL:

# In CI the lock file is the law; at a desk a changed Cargo.toml may update it.
LOCKED := $(if $(CI),--locked)
TRAINYARD := $(or $(CARGO_TARGET_DIR),target)/debug/trainyard
PREVIOUS := $(or $(CARGO_TARGET_DIR),target)/previous
EXAMPLES := $(dir $(TRAINYARD))examples
DEMO := runs/demo
CLUSTER_TESTS := cargo test $(LOCKED) --workspace --features trainyard-tests/cluster

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Train the breast-cancer example and predict a few rows with the result
	@rm -rf $(DEMO)
	$(TRAINYARD) run examples/breast-cancer/job.yaml --out $(DEMO)
	$(TRAINYARD) predict $(DEMO)/artifact --csv examples/breast-cancer/breast-cancer.csv --limit 5

build: libtorch ## Build the trainyard binary
	cargo build $(LOCKED) --package trainyard

test: libtorch ## Run everything that must hold, on a kind cluster too where one can be had
	@rc=0; tests/cluster/tools || rc=$$?; \
	if [[ $$rc == 0 ]]; then cargo test $(LOCKED) --workspace; \
	elif [[ $$rc == 3 ]]; then \
		cargo test $(LOCKED) --workspace --exclude trainyard-operator; \
		cargo test $(LOCKED) --package trainyard-operator --lib --bins --test docs --test plan --test process --test world; \
		echo 'skipped: the tests of the chart, which need helm; with Go 1.26 make test builds it'; \
	else exit $$rc; fi
	@$(MAKE) --no-print-directory test-kind

# What is built for the whole workspace at once is built with one set of features; single packages would build parts again.
test-kind: libtorch ## Run the tests that need a cluster on a kind cluster
	@tests/cluster/alone $(MAKE) --no-print-directory test-kind-alone

# A cluster that was not there before is taken down, however the tests end.
test-kind-alone:
	@tests/cluster/is-up || trap 'tests/cluster/down >/dev/null 2>&1 || echo "the cluster could not be taken down: make kind-down" >&2' EXIT; \
	tests/cluster/up $(NODES) || { rc=$$?; [[ $$rc == 3 ]] || exit $$rc; \
		echo 'skipped: the tests on a cluster; on one that exists: KUBECONFIG=... make test-cluster'; exit 0; }; \
	$(CLUSTER_TESTS) --no-run; \
	scripts/images.sh; \
	tests/cluster/load-images; \
	. tests/cluster/env.sh; \
	tests/cluster/in-cluster $(CLUSTER_TESTS) --offline --test kind --test lifecycle -- --test-threads=3

test-cluster: libtorch ## Run the tests that need a cluster on the one that KUBECONFIG names, which has the images
	$(CLUSTER_TESTS) --no-run
	$(CLUSTER_TESTS) --test kind --test lifecycle -- --test-threads=3

test-upgrade: kind-up ## Upgrade the operator under running jobs on a kind cluster (FROM=COMMIT, the one before unless told otherwise)
	tests/cluster/previous $(or $(FROM),HEAD^)
	$(CLUSTER_TESTS) --no-run
	scripts/images.sh
	tests/cluster/load-images
	tests/cluster/load-images $(PREVIOUS)/images/trainer.tar $(PREVIOUS)/images/operator.tar
	. tests/cluster/env.sh && tests/cluster/in-cluster $(CLUSTER_TESTS) --offline --test upgrade

demo-cluster: kind-up images ## Train the breast-cancer example on a kind cluster and here: the same bits
	cargo build $(LOCKED) --workspace --bins --example demo-cluster
	. tests/cluster/env.sh && tests/cluster/in-cluster $(EXAMPLES)/demo-cluster

world: ## Simulate 10,000 random schedules around the operator (WORLD_SEEDS=number)
	WORLD_SEEDS=$(or $(WORLD_SEEDS),10000) cargo test $(LOCKED) --package trainyard-operator --test world o40

sim: ## Simulate 10,000 random jobs of the real coordinator, shards and sessions under faults (SIM_SEEDS=number)
	SIM_SEEDS=$(or $(SIM_SEEDS),10000) cargo test $(LOCKED) --package trainyard-core --test sim_membership t22 -- --nocapture

soak: libtorch ## Disturb a job for a minute with kills and strangers: nothing grows, and the model is the same
	cargo test $(LOCKED) --workspace --test local soak -- --include-ignored --nocapture --test-threads=1

# Coverage comes from a pass of the compiler that stable Rust has. It is for the fuzzer's target alone: build scripts link no fuzzer.
COVERAGE := -C passes=sancov-module $(addprefix -C llvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
FUZZING := $(abspath $(or $(CARGO_TARGET_DIR),target))/fuzz
HOST = $(shell rustc --version --verbose | sed -n 's/^host: //p')

fuzz: ## Fuzz one kind of what is read from outside (TARGET=frames SECONDS=600; without TARGET: their names)
	@[[ -d fuzz/corpus/$(TARGET) && -n '$(TARGET)' ]] || { echo "TARGET is one of: $$(ls fuzz/corpus | paste --serial --delimiters=' ')" >&2; exit 2; }
	RUSTFLAGS='$(COVERAGE)' cargo build $(LOCKED) --package trainyard-fuzz --features libfuzzer --target $(HOST) --target-dir $(FUZZING)
	mkdir -p $(FUZZING)/found/$(TARGET)
	FUZZ_TARGET=$(TARGET) $(FUZZING)/$(HOST)/debug/trainyard-fuzz -max_total_time=$(or $(SECONDS),600) -timeout=10 -rss_limit_mb=256 \
		-max_len=16384 -artifact_prefix=$(FUZZING)/ $(FUZZING)/found/$(TARGET) fuzz/corpus/$(TARGET)

bench: libtorch ## Measure speed beside references in the same run (PARTS=exchange: one part)
	cargo bench $(LOCKED) --profile dev --workspace --bench speed -- $(PARTS)

bench-operator: libtorch tools ## Measure the operator on an API server without kubelets (JOBS=200)
	cargo test $(LOCKED) --workspace --no-run
	. tests/cluster/env.sh && JOBS=$(JOBS) cargo bench $(LOCKED) --profile dev --workspace --bench operator

bench-data: build ## Five public datasets beside scikit-learn's MLP, and reading a large table beside polars (PART=models or reading)
	cargo build $(LOCKED) --package trainyard --bins
	cargo build $(LOCKED) --package trainyard-data --example read
	@$$(scripts/bench-data/environment.sh) scripts/bench-data/run.py --programs $(dir $(TRAINYARD)) $(if $(PART),--part $(PART))

lint: lint-prerequisites libtorch ## Check formatting, clippy and docs, warnings denied
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets --features trainyard-tests/cluster -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc $(LOCKED) --workspace --no-deps

tools: ## Build the pinned kind, helm, kubectl, kube-apiserver and etcd, once a machine
	tests/cluster/tools

images: libtorch ## Make the container images, and load them into the test cluster if it is up
	cargo build $(LOCKED) --workspace --bins
	scripts/images.sh
	@! tests/cluster/is-up || tests/cluster/load-images

kind-up: ## Bring the test cluster up (NODES=3)
	@tests/cluster/up $(NODES)

kind-down: ## Take it down and leave nothing but the cache
	@tests/cluster/down

chart: libtorch ## Generate the CRD from the types in crds/, for the chart too
	cargo build $(LOCKED) --workspace --example crdgen
	$(EXAMPLES)/crdgen
	$(EXAMPLES)/crdgen charts/trainyard/files

docs: libtorch ## Generate the reference of the API from the types in crds/
	cargo build $(LOCKED) --workspace --example api_reference
	$(EXAMPLES)/api_reference

clean: ## Remove what was built and the demo's output; libtorch stays in its cache
	cargo clean
	rm -rf $(DEMO)

libtorch: prerequisites ## Provision libtorch (once a machine) and tell cargo where it is
	@directory=$$(scripts/libtorch.sh); \
	setting=$$(printf "[env]\nLIBTORCH = '%s'" "$$directory"); \
	[[ "$$(cat .cargo/libtorch.toml 2>/dev/null)" == "$$setting" ]] || \
		printf '%s\n' "$$setting" > .cargo/libtorch.toml

prerequisites: ## Name what is missing on this machine, and how to install it
	@scripts/check-prerequisites.sh

lint-prerequisites:
	@scripts/check-prerequisites.sh lint

.PHONY: tools test-upgrade images kind-up kind-down
.PHONY: help demo demo-cluster build test test-kind test-kind-alone test-cluster world sim soak fuzz bench bench-operator bench-data lint chart docs clean libtorch prerequisites lint-prerequisites
