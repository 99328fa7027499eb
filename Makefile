# Everything a contributor types. Works as root and as an ordinary user; nothing outside this folder is changed.

VENV := .venv
RUN  := $(VENV)/bin/python
# dies with make, even when make is killed with -9, and takes all that it has started with it
LEASHED := exec $(RUN) -I -S sandbox/leash.py $$PPID -1 -1 $(RUN)
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
# a pyenv shim may exist for a version that is not there, so each candidate has to prove itself
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c '$(FITS)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help demo up test thorough integration chaos faults lint format clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## a whole world on loopback, mails sent through it, and what became of them
	@$(LEASHED) -m sandbox.demo $(ARGS)

up: $(VENV)/installed ## the same world, kept up until Ctrl-C
	@$(LEASHED) -m sandbox.up $(ARGS)

# the longest files first, so that none of them is left over for one process at the end
test: $(VENV)/installed ## quick tests, no server needed
	@$(LEASHED) -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder -m "not integration and not chaos and not thorough" \
		tests/world tests/workers tests

thorough: $(VENV)/installed ## tests that need no server either, but take their time
	@$(LEASHED) -m pytest -q -n 3 --dist loadfile -m "thorough and not integration"

integration: $(VENV)/installed ## tests against real servers (Apache Kafka needs java and mvn)
	@$(LEASHED) -m pytest -q -m "integration and not chaos"

chaos: $(VENV)/installed ## kill everything and count what was lost or doubled; any size: make chaos N=100000 SEEDS=4,5
	@CHAOS_JOBS=$(N) CHAOS_SEEDS=$(SEEDS) $(LEASHED) -m pytest -q -s -m chaos

faults: $(VENV)/installed ## every fault at every ESP, 2,000 mails each, and a table
	@export FAULT_MAILS=2000; $(LEASHED) -m pytest -q -s tests/world/test_faults.py

lint: $(VENV)/installed ## style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(VENV)/installed ## put the code into its usual shape
	@$(RUN) -m ruff format .

clean: ## throw away the virtual environment and every cache
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/installed: requirements.txt requirements-dev.txt
	@"$(PYTHON)" -c '$(FITS)' 2>/dev/null || { \
		echo "Python 3.11 to 3.14 with venv is needed (Debian, Ubuntu: apt install python3-venv); make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(RUN) -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "installing requirements into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
