# Two commands do everything: `make repro` and `make test`. Both make the environment first.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: venv repro test ui lint bench help

help:
	@echo "make repro   environment, then dvc repro: data, sweeps, tables, figures, report"
	@echo "make test    environment, then lint, types and tests"
	@echo "make ui      the MLflow UI on this project's runs (PORT=5000)"
	@echo "make lint | bench"

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

repro: venv
	dvc repro

test: venv lint
	pytest -q

lint: venv
	ruff format --check .
	ruff check .
	mypy

PORT ?= 5000
ui: venv
	a3m ui port=$(PORT)

bench: venv
	python benchmarks/head.py
	python benchmarks/training_loop.py
	python benchmarks/sweep.py
