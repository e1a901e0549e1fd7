# Two commands are enough: `make run` and `make test`. `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate

.DEFAULT_GOAL := help

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Create .venv from the lock file, so that .venv/bin/ledger works

run: $(VENV)/.installed ## Install, start the embedded PostgreSQL and serve on http://127.0.0.1:8000
	@exec $(BIN)/ledger serve

demo: $(VENV)/.installed ## The same on three years of a simulated company, in a folder of its own
	@exec $(BIN)/ledger demo

test: $(VENV)/.tested ## Run all tests but browser and long faults, on a PostgreSQL they start themselves
	$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile

test-slow: $(VENV)/.tested ## Run the rest: browser walks, whole simulated companies, twenty schedules of faults, an upgrade
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile --timeout 1200

check: $(VENV)/.tested ## The whole gate: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

format: $(VENV)/.tested ## Put every file in the one format and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.tested ## Measure beside peers and limits in one run (BENCH="--events 100000")
	$(BIN)/python -m bench $(BENCH)

lock: $(VENV)/.tested ## Pin every dependency anew, with hashes
	$(COMPILE) --upgrade --extra build pyproject.toml -o requirements.lock
	$(COMPILE) --constraint requirements.lock --extra build --extra test pyproject.toml -o tests/requirements.lock

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ledger needs Python 3.11 or newer: make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), once: a minute or two."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.tested: tests/requirements.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.lock
	@touch $@

.PHONY: help install run demo test test-slow check format bench lock
