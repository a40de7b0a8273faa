# Each target works alone from a fresh clone with python3 (3.11 or newer) and make.
.DEFAULT_GOAL := help
.PHONY: help setup test report lint lock clean

PYTHON ?= python3
PROFILE ?= quick
BIN := .venv/bin
READY := .venv/.ready

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## create .venv with the locked dependencies and this package

report: $(READY) ## measure on this machine, judge the targets, write the page (PROFILE=quick or full)
	@$(BIN)/python -m reports --profile $(PROFILE)

test: $(READY) ## run all tests against real servers
	@$(BIN)/python -m pytest -q

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lock: $(READY) ## write requirements.lock anew from pyproject.toml (needs uv)
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --output-file requirements.lock

clean: ## remove .venv, runs and caches
	@rm -rf .venv reports/runs reports/latest.html .pytest_cache .mypy_cache .ruff_cache .benchmarks .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: a set-up that was interrupted starts again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'kairos: PYTHON=$(PYTHON): Python 3.11 or newer is needed' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo 'kairos: PYTHON=$(PYTHON): its venv module is missing' >&2; exit 2; }
	@echo 'Setting up .venv (once; about half a minute) ...'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
