# Foregate's commands for people and CI. Bare `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup up kafka test chaos check lint docs bench build clean requirements
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
COMPILE := $(BIN)/pip-compile --quiet --no-header --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready ## make .venv with the foregate program in it
up: .venv/.ready ## run API, worker and edge here, with the home .foregate
	@FOREGATE_HOME="$${FOREGATE_HOME:-.foregate}" exec $(BIN)/foregate up
kafka: .venv/.ready ## run an Apache Kafka for trying out, until Ctrl-C
	@PYTHONPATH=tests exec $(BIN)/python -m harness.kafka
test: lint ## everything: lint, types, and every test
	@$(PYTEST)
chaos: .venv/.ready ## kill, pause and end processes and databases for some 10 minutes (CHAOS_MINUTES, CHAOS_SEEDS)
	@PYTHONPATH=tests exec $(BIN)/python -m harness.chaos
check: lint ## the quick part: format, lint, types, floors, unit tests (under two minutes)
	@$(PYTEST) -q -n 2 tests/unit
bench: .venv/.ready ## measure speed and memory against the targets
	@$(BIN)/python -m bench
docs: .venv/.ready ## write the generated reference pages anew, and check the docs
	@$(BIN)/python docs/generate.py
	@$(PYTEST) -q tests/unit/docs
build: .venv/.ready ## build the wheel and the source archive in dist/
	@$(BIN)/python -m build --no-isolation
clean: ## remove what was built and every cache (not .venv, not .foregate)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find src tests bench docs -name __pycache__ -type d -prune -exec rm -rf {} +
requirements: .venv/.ready ## pin the newest allowed versions in requirements/*.txt
	@$(COMPILE) --upgrade -o requirements/run.txt pyproject.toml
	@$(COMPILE) --upgrade -c requirements/run.txt -o requirements/dev.txt pyproject.toml requirements/dev.in

lint: .venv/.ready
	@$(BIN)/ruff format --check --quiet . || { echo "Run: .venv/bin/ruff format ." >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

# The stamp is written last, so a setup that was cut off starts again; pip itself skips what is installed already.
.venv/.ready: requirements/dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Foregate needs Python 3.11 or newer, and $(PYTHON) is not here; install it (Debian: apt-get install python3 python3-venv), or name another: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Foregate needs Python 3.11 or newer, and $(PYTHON) is older; install a newer one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Foregate needs Python's venv module, which $(PYTHON) lacks; install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv; the first time this takes a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@
