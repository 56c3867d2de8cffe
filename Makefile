# Everything one can do here. Needs only Python >= 3.11 and PyPI; PYTHON=… names another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-real check bench clean

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

test: $(VENV)/dev ## all tests that need only PyPI
	$(BIN)/python -m pytest $(ARGS)

test-real: ## tests with parts that PyPI cannot give (Apache Kafka, Chromium): there are none in this release
	@echo "Nothing in this release needs more than PyPI gives: make test is all of it."

check: $(VENV)/dev ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/dev ## side-by-side timings; writes benchmarks/results.json
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
