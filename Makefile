# Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test test-grid lint format clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml
	@echo "Installing into $(VENV) (about 6 GB and 4 minutes the first time) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(INSTALLED)  ## Make .venv and install the package into it.

demo: $(INSTALLED)  ## Train on digits four ways, print a table, write an HTML report.
	$(BIN)/composer-dataagent demo

test: $(INSTALLED) lint  ## Lint, type-check and run the whole test suite.
	$(BIN)/python -m pytest

test-grid: $(INSTALLED)  ## Stream in every combination of settings; takes half an hour.
	$(BIN)/python -m pytest -m grid

lint: $(INSTALLED)  ## ruff and pyright.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(INSTALLED)  ## Let ruff fix and format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what demo and tests wrote (not .venv).
	rm -rf runs data build dist .pytest_cache .ruff_cache .hypothesis
