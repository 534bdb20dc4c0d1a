# Everything here works from a fresh clone with git, make and Python 3.11+; nothing needs root.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Hundreds of processes of the tests would compile every module anew where the environment keeps Python from storing it.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo up test coverage check format docs bench chaos walk lock dist clean
.DEFAULT_GOAL := demo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.runtime ## the Open University replay, with the expected figures beside the real ones
	@$(BIN)/withdrawals demo

up: $(VENV)/.runtime ## PostgreSQL, Redis, web, worker and relay, until Ctrl-C; DEMO=1: with data to click through
	@$(BIN)/withdrawals up $(if $(DEMO),--demo)

test: $(VENV)/.dev ## the whole suite, against real PostgreSQL and Redis that it starts itself
	@$(BIN)/python -m pytest -n 3 --dist worksteal

coverage: $(VENV)/.dev ## the whole suite, and the lines of the service that no test reaches
	@$(BIN)/python -m pytest -n 3 --dist worksteal --cov --cov-report=term

check: $(VENV)/.dev ## format, lint, types, import layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code and repair what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## the site of the documentation, into site/; without a network, and a warning is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.bench ## beside other queues, a bare receiver and set SQL, see ops/bench.md; QUICK=1: a minute; LARGE=1: also 10 million
	@$(BIN)/python -m ops.bench $(if $(QUICK),--quick) $(if $(LARGE),--large)

# What runs in full beside the scenarios: tests that draw their examples. Then, all over the tests, what is marked as long.
# A test may take as long as it needs on a busy machine; the limit of the suite is for one that hangs.
DRAWN := tests/security/test_fuzz.py tests/security/test_fuzz_doors.py tests/people/test_event_order.py \
	tests/people/test_inbox_sets.py tests/people/test_repeated_deactivations.py tests/races/test_race_event_order.py
FULL  := WITHDRAWALS_TEST_CHAOS=full $(BIN)/python -m pytest -n 0 --show-capture=no --timeout 900
LONG  := code=0; $(FULL) $(DRAWN) || code=1; $(FULL) -m long --ignore tests/faults || code=1; exit $$code

chaos: $(VENV)/.dev ## break everything under it, see ops/chaos.md; CHAOS_SEED=n repeats a run, CHAOS_ONLY=name runs one
	@export CHAOS_SEED=$${CHAOS_SEED:-$$($(BIN)/python -c 'import secrets; print(secrets.randbelow(2**31))')}; code=0; \
		$(if $(CHAOS_ONLY),,beside=$$(mktemp); ($(LONG)) >$$beside 2>&1 & other=$$!;) \
		$(FULL) tests/faults || code=1; \
		$(if $(CHAOS_ONLY),,wait $$other || code=1; cat $$beside; rm $$beside;) \
		$(BIN)/python -m ops.chaos; exit $$code

walk: $(VENV)/.dev ## follow the pages of operations with the wheel and real servers, see ops/walk.md; KEEP=folder leaves all there
	@$(BIN)/python -m ops.walk --record $(if $(KEEP),--keep $(KEEP))

# The lock is the five files under requirements/, all written by uv from pyproject.toml, each inside the limits of the
# ones before: what production runs, plus the embedded servers and the build backend, the build backend alone (for the
# image), plus the developers' tools, and what the benchmark compares with.
# It is neither uv.lock nor pylock.toml: both record the address of the index and of every file, so they would send a
# machine that has a mirror elsewhere, and the pip that comes with Python 3.11 reads neither of them.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

lock: $(VENV)/.dev ## pin the dependencies of pyproject.toml; UPGRADE=1: at their newest releases
	@$(PIP) 'uv>=0.13,<0.14'
	@$(COMPILE) pyproject.toml --output-file requirements/production.txt >/dev/null
	@$(COMPILE) pyproject.toml --extra local --group build --constraints requirements/production.txt \
		--output-file requirements/local.txt >/dev/null
	@$(COMPILE) --group build --constraints requirements/local.txt --output-file requirements/build.txt >/dev/null
	@$(COMPILE) --group dev --constraints requirements/local.txt --output-file requirements/dev.txt >/dev/null
	@$(COMPILE) --group bench --constraints requirements/dev.txt --output-file requirements/bench.txt >/dev/null

dist: $(VENV)/.runtime ## build both wheels, the bill of materials and the hashes into dist/
	@rm -rf dist
	@$(BIN)/python -m hatchling build -t wheel
	@cd schemas && $(CURDIR)/$(BIN)/python -m hatchling build -t wheel -d ../dist
	@$(BIN)/python -m ops.sbom dist
	@cd dist && sha256sum * >SHA256SUMS

clean: ## remove the environment; .local/ (your data) stays
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.x …")'
	@$(PYTHON) -m venv $(VENV)

# The lock is complete, so pip resolves nothing (--no-deps) and takes no file with another hash.
$(VENV)/.runtime: requirements/local.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing (once, about half a minute) …"
	@$(PIP) --no-deps --require-hashes -r requirements/local.txt
	@$(PIP) --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	@$(PIP) --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.runtime
	@$(PIP) --no-deps --require-hashes -r requirements/bench.txt
	@touch $@
