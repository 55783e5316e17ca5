# Sluice: `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GO ?= go
# The interpreter to measure with: the distribution's, which is optimised where pyenv's is not.
BENCH_PYTHON ?= $(firstword $(wildcard /usr/bin/python3.11 /usr/bin/python3.12 /usr/bin/python3.13) $(PYTHON))
BENCH_VENV := .venv/bench
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
FAAS_CLI := .bin/faas-cli
BROKER := .bin/kafka/.done
CLIENTS := tests/contract/clients

.DEFAULT_GOAL := help
.PHONY: help dev fmt lint check test torture bench up down kafka docs locks faas-cli broker clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z][a-z-]*:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(VENV)/.embedded ## Install, start, deploy stack.yml, train on real data and predict
	@$(BIN)/sluice up -f stack.yml
	@$(BIN)/python -m examples.quickstart
	@echo "stop with: make down"

down: ## Stop what `make up` started
	@if [ -x $(BIN)/sluice ]; then $(BIN)/sluice down; else echo "nothing is installed"; fi

kafka: ## Start one Kafka broker on 127.0.0.1:9092 (needs Java and Maven)
	@deploy/kafka/run.sh

dev: $(VENV)/.dev ## Install everything that development needs

fmt: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev ## Check style, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: $(VENV)/.dev ## Fast tests, without network and under a minute
	$(BIN)/pytest -q -m "not torture and not contract and not network" tests/sluice/http1 tests/sluice/runtime tests/sluice/settings tests/gateway

test: $(VENV)/.dev $(FAAS_CLI) $(BROKER) ## All tests but torture
	$(BIN)/pytest -m "not torture" --numprocesses 3 --dist loadfile

torture: $(VENV)/.dev $(BROKER) ## Kill, load and fresh-clone tests
	$(BIN)/pytest -m torture

bench: $(BENCH_VENV)/.ready ## Measure everything that has a target beside its control
	@for pair in wrk:wrk nginx:nginx cc:build-essential java:default-jre-headless mvn:maven; do program=$${pair%:*}; \
	  command -v $$program >/dev/null || [ -x /usr/sbin/$$program ] || missing="$$missing $${pair#*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get install --yes --no-install-recommends $$missing; fi
	$(BENCH_VENV)/bin/python -m bench.run $(SUITES)

docs: $(VENV)/.dev ## Write the generated tables into the documentation
	$(BIN)/python -m tests.docs.tables

locks: $(VENV)/.dev ## Resolve the dependencies again
	for extra in gateway embedded dev; do $(BIN)/uv pip compile pyproject.toml locks/build.in \
	  --extra $$extra --generate-hashes --no-emit-index-url --no-header --quiet --upgrade \
	  --python-version 3.11 --output-file locks/$$extra.txt || exit 1; done

faas-cli: $(FAAS_CLI) ## Build the pinned OpenFaaS command line into .bin/

broker: $(BROKER) ## Fetch the Kafka broker of the tests into .bin/

clean: ## Remove what was installed or built here; .sluice/ stays
	rm -rf $(VENV) .bin build dist .ruff_cache .mypy_cache .pytest_cache .import_linter_cache

# The contract tests skip with a reason where Go is missing.
$(FAAS_CLI): $(wildcard $(CLIENTS)/*/go.mod $(CLIENTS)/*/*.go)
	@mkdir -p .bin
	@if command -v $(GO) >/dev/null; then set -e; \
	  (cd $(CLIENTS)/faascli && $(GO) build -o ../../../../.bin/faas-cli github.com/openfaas/faas-cli); \
	  (cd $(CLIENTS)/remotebuild && $(GO) build -o ../../../../.bin/remotebuild .); touch $@; \
	else echo "go is missing: the contract tests will skip"; fi

# Ahead of the tests, whose patience with a broker's start is none with a download.
$(BROKER): deploy/kafka/pom.xml
	@if command -v java >/dev/null && command -v mvn >/dev/null; then deploy/kafka/run.sh fetch; \
	else echo "java or mvn is missing: the tests with a Kafka broker will skip"; fi

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: locks/embedded.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing Sluice into $(VENV)"
	@$(PIP) --require-hashes -r locks/embedded.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_VENV)/.ready: locks/dev.txt pyproject.toml | $(VENV)/.dev
	@$(BIN)/uv venv --quiet --clear --python $(BENCH_PYTHON) $(BENCH_VENV)
	@$(BIN)/uv pip install --quiet --python $(BENCH_VENV)/bin/python --require-hashes -r locks/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BENCH_VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: locks/dev.txt pyproject.toml | $(VENV)/bin/python
	@$(PIP) --require-hashes -r locks/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.embedded
