# make up     a grid on this host and a physics production on it     make down   remove it (YES=1: do not ask)
# make test   everything, in order of tiers                          make lint   ruff, mypy, import contracts
# make test-unit | test-contract | test-integration | test-e2e       one tier
# make test-lab                                                      heavy parts: clouds, whole machines
# make bench AREA=turnaround|deploy|queue                                    figures against goals; tests/benchmarks/README.md lists the areas
# PYTHON=python3.12 chooses the interpreter (3.11 or newer); .venv is made again when pyproject.toml changes.

MAKEFLAGS += --no-print-directory
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/installed
SITE ?= production/site.yaml
AREA ?=

.PHONY: up down test test-unit test-contract test-integration test-e2e test-lab lint bench clean venv
.DEFAULT_GOAL := up

up: $(STAMP)
	@$(PY) templates/production/run.py

down: $(STAMP)
	@$(VENV)/bin/orchestrate down $(SITE) $(if $(YES),--yes)

test: $(STAMP)
	@$(PY) -m tests.support.tiers lint unit contract integration e2e

test-unit test-contract test-integration test-e2e test-lab: $(STAMP)
	@$(PY) -m tests.support.tiers $(@:test-%=%)

lint: $(STAMP)
	@$(PY) -m tests.support.tiers lint

bench: $(STAMP)
	@$(PY) -m tests.support.bench $(AREA)

clean:
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	@echo "removed caches and builds; $(VENV) stays (rm -rf $(VENV)), a running grid too (make down)"

venv: $(STAMP)

$(STAMP): pyproject.toml tests/support/venv.sh
	@PYTHON="$(PYTHON)" sh tests/support/venv.sh $(VENV)
	@touch $@
