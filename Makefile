# Everything runs from .venv, which the first target that needs it makes.

PYTHON ?= python3
BIN := .venv/bin
# Each is touched last, so that an interrupted set-up is begun again and a finished one costs nothing.
INSTALLED := .venv/.runs-installed
RUNS := .venv/.runs
READY := .venv/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help .venv demo services test test-extra thorough mutants oracle soak chaos bench bench-growth check format \
	lint types imports lock schema store

help: ## list the targets
	@sed -n 's/^\([a-z.-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

.venv: $(READY) ## make the environment

# What runs, and the servers' binaries; the developers' tools come on top.
$(INSTALLED): requirements/demo.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("pluggy-sync needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 ...")'
	@echo "making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python requirements/install.py demo.txt
	@touch $@

$(RUNS): $(INSTALLED) pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(READY): $(RUNS) requirements/dev.txt
	@$(BIN)/python requirements/install.py dev.txt
	@touch $@

demo: $(RUNS) ## the whole service against the simulator (ARGS="--exit --json ...")
	@$(BIN)/pluggy-sync demo $(ARGS)

services: $(RUNS) ## Postgres and Valkey in the foreground (ARGS="--data-dir DIR" keeps the data)
	@$(BIN)/python -m embedded $(ARGS)

# A given Redis has one set of keys, so only one process may test with it.
TESTERS = $(if $(REDIS_URL),0,3)

# Without order by file: the slowest tests stand alone in theirs, and would be the last of one process.
test: $(READY) ## every test that needs only Python (ARGS="-k name")
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal $(ARGS)

# Tests that draw more examples here than in `make test`.
DRAWN = $(shell grep -rl --include='test_*.py' '^from tests.support.examples' tests)

# Side by side: the tests wait for processes and for time to pass while the faults are judged.
test-extra: $(READY) ## the tests that take long or need other programs, and the mutants
	@$(MAKE) --jobs=2 --output-sync=target mutants thorough

thorough: $(READY)
	THOROUGH=1 $(BIN)/python -m pytest tests/extra $(DRAWN) $(ARGS)

mutants: $(READY) ## break the code on purpose; the tests must notice
	$(BIN)/python -m tests.mutants

oracle: $(READY) ## scenarios against the whole service (TRACE=file: one again, ARGS=--shrink)
	$(BIN)/python -m tests.oracle $(if $(TRACE),--trace $(TRACE)) $(ARGS)

soak: $(READY) ## the oracle with fresh scenarios for MINUTES=60
	$(BIN)/python -m tests.oracle --minutes $(or $(MINUTES),60) $(ARGS)

chaos: $(READY) ## break everything under load, up to 40 minutes (ARGS=--short)
	$(BIN)/python -m tests.chaos $(ARGS)

bench: $(READY) ## measure beside other ways (ARGS="--quick|--check [question]")
	$(BIN)/python -m bench $(ARGS)

bench-growth: $(READY) ## measure what grows with the tables, under an hour (ARGS=--items=10000)
	$(BIN)/python -m bench.growth $(ARGS)
	$(BIN)/python -m bench.cookbook

store: $(READY) ## write worker/store from sql/queries and a migrated database
	@$(BIN)/python -m bench.generate_store

schema: $(READY) ## write sql/schema.txt and docs/data-model.md from a migrated database
	@$(BIN)/python -m bench.schema

check: lint types imports ## everything static

format: $(READY) ## rewrite to the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY) ## format and lint rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m bench.sql_format

types: $(READY) ## mypy --strict
	$(BIN)/mypy

imports: $(READY) ## who may import whom
	$(BIN)/lint-imports

# Needs uv. The index that answered and the command line with its paths stay out of the files.
LOCK = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate --quiet $(UPGRADE)
lock: ## pin the requirements again (UPGRADE=--upgrade)
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) --group build -c requirements/runtime.txt -o requirements/build.txt
	$(LOCK) pyproject.toml --extra embedded --group build \
		-c requirements/runtime.txt -c requirements/build.txt -o requirements/demo.txt
	$(LOCK) pyproject.toml --extra embedded --group dev \
		-c requirements/demo.txt -o requirements/dev.txt
	$(LOCK) --group bench -c requirements/dev.txt -o requirements/bench.txt
