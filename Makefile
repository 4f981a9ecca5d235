# One command each. Every target first makes .venv/ when it is missing or stale; a machine with
# Python 3.11+, pip and make needs nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
T ?=
ARGS ?=

UV_LOCK := $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-annotate --no-header \
	--universal --python-version 3.11

.PHONY: help
help:  ## list every target with its meaning
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: venv
venv:  ## make .venv/ from the lock, or bring it up to date
	@tools/bootstrap.sh

.PHONY: demo
demo: venv  ## send a storm through the whole suite on this machine and balance the ledger (ARGS=...)
	@$(BIN)/tidewire demo $(ARGS)

.PHONY: dev
dev: venv  ## run everything on this machine: NATS, services, sandbox (ARGS=...)
	@$(BIN)/tidewire dev $(ARGS)

.PHONY: test
test: venv  ## run the tests; T=path for some of them, ARGS=... for pytest
ifeq ($(T)$(ARGS),)
	@# Those that start the whole suite want the machine to themselves; the others share it.
	@$(BIN)/pytest -n 2 --dist loadfile -m "not e2e"
	@$(BIN)/pytest -m e2e
else
	@$(BIN)/pytest $(ARGS) $(T)
endif

.PHONY: check
check: venv  ## format, lint, types, import contracts, schemas, locks: everything but the tests
	@$(BIN)/python -m tools.check

.PHONY: bench
bench: venv  ## measure throughput and latency on this machine (ARGS=...)
	@$(BIN)/python -m tests.bench $(ARGS)

.PHONY: faults
faults: venv  ## inflict every fault on the running suite and write docs/fault-matrix.md (ARGS=...)
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: fmt
fmt: venv  ## format the code and repair what the linter can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: gen
gen: venv  ## write gen/ from protos/, and docs/adr/README.md from its records
	@$(BIN)/python tools/gen.py
	@$(BIN)/python -m tools.adr_index

.PHONY: docs
docs: venv  ## write the references: docs/settings.md, metrics.md, api.md, tables of ARCHITECTURE.md
	@$(BIN)/python -m tools.docs

.PHONY: lock
lock: venv  ## write both locks from pyproject.toml (keeps versions that still fit; ARGS=--upgrade)
	@$(UV_LOCK) $(ARGS) --group dev pyproject.toml -o requirements.lock
	@$(UV_LOCK) -c requirements.lock pyproject.toml -o requirements-runtime.lock

.PHONY: hooks
hooks: venv  ## run the quick checks before each commit from now on
	@$(BIN)/pre-commit install

.PHONY: clean
clean:  ## remove .venv/, caches and the state of local runs
	@rm -rf .venv .build .state .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
