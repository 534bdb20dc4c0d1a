# Everything here works from a fresh clone with git, make and Python 3.11+; nothing needs root.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo up test check format bench chaos lock clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.runtime ## the Open University replay, with the expected figures beside the real ones
	@$(BIN)/withdrawals demo

up: $(VENV)/.runtime ## PostgreSQL, Redis, web, worker and relay, until Ctrl-C; DEMO=1: with data to click through
	@$(BIN)/withdrawals up $(if $(DEMO),--demo)

test: $(VENV)/.dev ## the whole suite, against real PostgreSQL and Redis that it starts itself
	@$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev ## format, lint, types, import floors
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## throughput against one-actor-per-enrolment, and idle latency
	@$(BIN)/python -m ops.bench

chaos: $(VENV)/.dev ## the fault tests at full size
	@WITHDRAWALS_TEST_CHAOS=full $(BIN)/python -m pytest tests/faults --timeout=900

lock: $(VENV)/.dev ## after a change of dependencies; needs `uv`
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --output-file requirements.txt pyproject.toml requirements.build.in
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra dev --output-file requirements-dev.txt pyproject.toml requirements.build.in

clean: ## the environment; .local/ (your data) stays
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.x …")'
	@$(PYTHON) -m venv $(VENV)

# The lock is complete: with --no-deps pip resolves nothing, so that no newer release can come in its way.
$(VENV)/.runtime: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing (once, about half a minute) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.txt
	@touch $@
