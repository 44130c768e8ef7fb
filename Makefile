# Everything happens in one virtual environment, made by `make setup` when it is needed.
#
#   PYTHON       the interpreter that makes it (3.11 or newer)
#   VENV         where it lies; an existing one is used as it is
#   CONSTRAINTS  exact versions to install; empty takes the newest, or keeps what is there
#   PIP_ARGS     further options for pip, for instance the index of CPU-only torch builds:
#                make setup PIP_ARGS=--extra-index-url=URL. A torch build such as 2.15.0+cpu
#                satisfies the pinned 2.15.0 and is not replaced; keep any other build of your
#                own with: make setup VENV=PATH CONSTRAINTS=
#   JOBS         test processes; 0 runs the tests in one
#   PYTEST_ARGS  further options for pytest

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PIP_ARGS ?=
JOBS ?= 2
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.slstream-setup
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-kafka kafka test test-long lint format clean

help: ## show this text
	@echo 'make TARGET'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the virtual environment, unless nothing changed since the last time

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	  sys.exit(0 if v >= (3, 11) else f"expected Python 3.11 or newer, found {v[0]}.{v[1]}: set PYTHON")'
	@echo 'Installing into $(VENV); the first time PyTorch is downloaded, which takes minutes.'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_ARGS) \
	  $(addprefix -c ,$(CONSTRAINTS)) -e '.[dev]'
	@touch $@

demo: setup ## train a split model on real data: one label party, two feature parties
	$(BIN)/slstream run topology/breast-cancer.yaml

demo-kafka: setup ## the same on a Kafka broker, which is started for it
	$(BIN)/python -m tests.kafka \
	  $(BIN)/slstream run topology/breast-cancer.yaml --set 'transport=kafka://{address}'

kafka: setup ## a Kafka broker to play with, until Ctrl-C
	@$(BIN)/python -m tests.kafka

# Style and types are among the tests (tests/test_static.py), so that nothing hides the rest.
test: setup ## every check that takes minutes at most
	@$(BIN)/python -m tests.kafka.finding
	$(PYTEST) -m 'not long' $(PYTEST_ARGS)

test-long: setup ## the tests that need many minutes
	@$(BIN)/python -m tests.kafka.finding
	$(PYTEST) -m long --timeout 3600 $(PYTEST_ARGS)

lint: setup ## style and types
	$(BIN)/ruff check slstream tests
	$(BIN)/ruff format --check slstream tests
	$(BIN)/mypy

format: setup ## rewrite the sources in the house style
	$(BIN)/ruff check --fix slstream tests
	$(BIN)/ruff format slstream tests

clean: ## remove what the targets above made, but no run
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find slstream tests -name __pycache__ -type d -prune -exec rm -rf {} +
