# Everything one can do here. Needs only Python >= 3.11 and PyPI; PYTHON=… names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
KILLS ?= 10
EVENTS ?= 300000
SEED ?=
EXAMPLES ?= 10000

.DEFAULT_GOAL := help
.PHONY: help demo test test-real crash fuzz model real-parts check bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/groundswell: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Groundswell needs Python >= 3.11: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: $(BIN)/groundswell
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(BIN)/groundswell ## play a community through the embedded stack (ARGS=--exit ends when the tables are printed)
	$(BIN)/groundswell demo $(ARGS)

test: $(VENV)/dev ## all tests that need only PyPI, a file at a time on each core
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-real: $(VENV)/dev real-parts ## tests on a real Apache Kafka, PostgreSQL and Chromium (fetches Java, Maven and Chromium where it may, Kafka itself from Maven Central)
	$(BIN)/python -m pytest tests/real $(ARGS)

crash: $(VENV)/dev real-parts ## kill real workers at random instants: make crash KILLS=100 [EVENTS=300000] [SEED=…]
	KILLS=$(KILLS) EVENTS=$(EVENTS) SEED=$(SEED) $(BIN)/python -m pytest tests/real/test_crashes.py $(ARGS)

fuzz: $(VENV)/dev ## Schemathesis against the API, over SQLite and PostgreSQL: make fuzz EXAMPLES=500
	SCHEMATHESIS_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/service/test_schemathesis.py $(ARGS)

model: $(VENV)/dev ## random lives of a member against a model in plain lists: make model EXAMPLES=10000; and bugs that it must find
	EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/aggregates/test_ledger_machine.py -rP $(ARGS)

real-parts: ## install what test-real and bench need: Java, Maven, Chromium and wrk (Debian, as root)
	@missing=""; \
	command -v java > /dev/null || missing="$$missing default-jre-headless"; \
	command -v mvn > /dev/null || missing="$$missing maven"; \
	command -v chromium > /dev/null || missing="$$missing chromium"; \
	command -v wrk > /dev/null || missing="$$missing wrk"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
		echo "Apache Kafka needs Java 17 or later and Maven to fetch it, the console's tests Chromium, the benchmark of reads wrk. Please install (Debian's names):$$missing" >&2; \
		exit 2; \
	fi; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing

check: $(VENV)/dev ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/dev real-parts ## side-by-side timings, Faust, Quix and Kafka Streams among them; writes benchmarks/results.json (30 min)
	$(BIN)/python -m benchmarks $(ARGS)
	$(BIN)/python -m benchmarks.peers.run --workload sparse --results benchmarks/results.json $(ARGS)
	$(BIN)/python -m benchmarks.commands --results benchmarks/results.json
	$(BIN)/python -m benchmarks.serving --results benchmarks/results.json
	$(BIN)/python -m benchmarks.visible --results benchmarks/results.json
	$(BIN)/python -m benchmarks.live --results benchmarks/results.json

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
