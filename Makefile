# Each target works alone from a fresh clone with python3 (3.11 or newer) and make.
.DEFAULT_GOAL := help
.PHONY: help setup test report bench validate load scale studies profile coverage lab lint wheel pythons lock clean

PYTHON ?= python3
PROFILE ?= quick
SESSIONS ?= 1000000
OPERATION ?= all
STUDY ?=
SCENARIO ?= baseline
TIME ?= 1
SIZE ?= 1
INSTANCES ?= 2
ALL ?=
SUBJECT ?= kairos
SEED ?= 0
BIN := .venv/bin
READY := .venv/.ready
# Hundreds of processes are started here: without compiled files each would compile all that it imports.
export PYTHONDONTWRITEBYTECODE :=
# Three processes share the files: a test waits half of its time and more, and a file's servers are its own.
TESTS := pytest -q -n auto --dist loadfile --no-loadscope-reorder
# The managers, the commands, and what sends the scripts.
HOT := kairos_core/*state_manager.py,kairos_core/operations.py,kairos_core/commands.py,kairos_core/link.py,kairos_core/attempts.py,kairos_core/expiry.py,kairos_core/audit/outbox.py

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: $(READY) ## create .venv with the locked dependencies and this package

report: $(READY) ## measure all of it, judge, write the page (PROFILE=quick, 6 minutes, or full, half an hour)
	@$(BIN)/python -m reports --profile $(PROFILE)

# On this machine alone, without a look at the network, and no output gets into the notebooks when they are saved.
lab: $(READY) ## open the notebooks in JupyterLab; Ctrl-C ends it
	@JUPYTER_CONFIG_PATH=$(CURDIR)/reports/lab/jupyter $(BIN)/jupyter lab notebooks

bench: $(READY) ## time every operation, compare with the baseline, fail on what became slower (PROFILE=quick or full)
	@$(BIN)/python -m reports.bench --profile $(PROFILE)

validate: $(READY) ## attack the core, let faults befall it, break it, and judge what was seen (PROFILE=quick or full)
	@$(BIN)/python -m loadtests validate --profile $(PROFILE)

load: $(READY) ## put a load on the core by Locust, and judge speed and correctness (SCENARIO=baseline, TIME=1, SIZE=1, INSTANCES=2)
	@$(BIN)/python -m loadtests.load run $(SCENARIO) --time $(TIME) --size $(SIZE) --instances $(INSTANCES) \
	  --subject $(SUBJECT) --seed $(SEED)

scale: $(READY) ## compare the latency with a million sessions with that with a hundred (SESSIONS=1000000)
	@$(BIN)/python -m reports.scale --sessions $(SESSIONS)

studies: $(READY) ## measure how cost grows and what a user would pick instead, and judge it (PROFILE=quick or full, STUDY=...)
	@$(BIN)/python -m reports.studies $(STUDY) --profile $(PROFILE)

profile: $(READY) ## show where a call's time goes, as flame graphs (OPERATION=get, update, mutate, delivery, drain or all)
	@$(BIN)/python -m loadtests.profiling --operation $(OPERATION)

test: $(READY) ## run all tests against real servers
	@$(BIN)/python -m $(TESTS)

# The digest says of which core it is: only if that is still the same behind the tests, it is written down.
coverage: $(READY) ## run all tests, show what of the core they reach, and keep that for the next report
	@$(BIN)/coverage erase
	@digest=$$($(BIN)/python -m reports.coverage) && $(BIN)/coverage run -m $(TESTS) && \
	  $(BIN)/coverage combine --quiet && $(BIN)/python -m reports.coverage --digest $$digest --managers '$(HOT)'
	@$(BIN)/coverage report --fail-under=95
	@$(BIN)/coverage report --fail-under=98 --include='$(HOT)' >/dev/null || \
	  { $(BIN)/coverage report --include='$(HOT)'; exit 1; }

lint: $(READY) ## ruff, mypy, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

wheel: $(READY) ## build the package into dist
	@rm -rf dist
	@$(BIN)/hatchling build -d dist

pythons: wheel ## install and use the wheel on each Python from 3.11 to 3.13 that is found (PYTHONS="path path"; ALL=1: none may be missing)
	@$(BIN)/python -m tests.installed $(if $(ALL),--all)

lock: $(READY) ## write requirements.lock anew, and deploy's parts of it, from pyproject.toml (needs uv)
	@uv pip compile pyproject.toml --extra dev --extra lab --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --output-file requirements.lock
	@$(MAKE) --no-print-directory setup
	@$(BIN)/python -m tests.installed.locked

clean: ## remove .venv, runs and caches
	@rm -rf .venv dist reports/runs loadtests/runs reports/latest.html reports/coverage.json .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .benchmarks .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: a set-up that was interrupted starts again.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'kairos: PYTHON=$(PYTHON): Python 3.11 or newer is needed' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo 'kairos: PYTHON=$(PYTHON): its venv module is missing' >&2; exit 2; }
	@echo 'Setting up .venv (once; about a minute) ...'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python .ci/install.py
	@touch $(READY)
