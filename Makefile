# One virtual environment serves every target. It is installed once, and again when setup.cfg changes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := sana_wm_gym agents benchmarks tests

# Many tiny tensor operations: one thread per process is faster than threads that wait for each other.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo play test lint format type unit browser docs wheel clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

demo: $(STAMP) ## step a learned world for 16 chunks and score the rollout
	$(BIN)/sana-wm demo

play: $(STAMP) ## walk in the learned world, in the browser
	$(BIN)/sana-wm play

test: lint type unit ## everything CI checks: lint, types, tests

lint: $(STAMP) ## style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## rewrite the code in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP) ## static types
	$(BIN)/mypy

unit: $(STAMP) ## tests only, on all cores
	$(BIN)/python -m pytest -n auto

browser: $(STAMP) ## the page of `sana-wm play` in a Chromium
	.ci/browser $(BIN)/python

docs: $(STAMP) ## these pages and the API reference, to build/docs; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

wheel: $(STAMP) ## build the wheel and try it, installed, in an empty folder
	.ci/wheel $(BIN)/python

clean: ## remove the environment and all caches
	rm -rf $(VENV) build *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and pinned, so that a build already on this machine is taken if there is one.
$(STAMP): setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@
