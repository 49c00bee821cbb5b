# Two commands do everything: `make repro` and `make test`. Both make the environment first.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: venv repro test test-ray test-others test-cluster ui lint bench photographs plan docs help

help:
	@echo "make repro   environment, then dvc repro: data, sweeps, tables, figures, report"
	@echo "make test    environment, then lint, types and tests"
	@echo "make test-cluster   faults on several hosts, made here as network namespaces: about 20 minutes on 2 cores; needs root"
	@echo "make ui      the MLflow UI on this project's runs (PORT=5000)"
	@echo "make plan PROFILE=paper   trials, images and hours of all studies; trains nothing"
	@echo "make photographs   the real photographs of data/raw/cub200, EfficientNet-Lite0 from ImageNet: about 40 minutes on 2 cores"
	@echo "make docs    the documentation as a site: site/index.html; a warning is an error"
	@echo "make lint | bench"

venv: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

repro: venv
	dvc repro

# The tests that start Ray one after another, since Rays that run together starve each other; beside them the others, with the
# browser's, which start a small one. Two targets, for a shell would start the second one deaf to Ctrl-C, as its tests are then.
test: venv lint
	@echo "pytest: tests that start Ray (shown as they run), and the others beside them (shown after them)"
	@$(MAKE) --no-print-directory -k -j 2 test-ray test-others; status=$$?; cat $(VENV)/others.log; exit $$status

test-ray:
	@pytest -q --durations=8 -m "cluster and not browser"

test-others:
	@pytest -q -m "not cluster or browser" > $(VENV)/others.log 2>&1

# Every fault of docs/reliability.md, really done. FAULTS="-k worker" runs a part. Without namespaces: processes, and it says so.
FAULTS ?=
test-cluster: venv
	@tests/lab/needs
	pytest -m hosts -s --durations=0 $(FAULTS)

lint: venv
	ruff format --check .
	ruff check .
	mypy

docs: venv
	rm -rf site
	sphinx-build -q -W --keep-going docs site
	@echo "site/index.html"

PROFILE ?= paper
plan: venv
	a3m plan profile=$(PROFILE)

# Real photographs, ImageNet weights, fine-tuned end to end (docs/photographs.md). SETTINGS="seeds=[0,1,2,3,4,5]" and the like.
PHOTOGRAPHS := profile=finetune dataset=cub200_photographs
photographs: venv
	python pipelines/prepare.py $(PHOTOGRAPHS)
	python pipelines/pack.py $(PHOTOGRAPHS)
	python sweeps/photographs.py $(PHOTOGRAPHS) $(SETTINGS)
	python pipelines/tables.py

PORT ?= 5000
ui: venv
	a3m ui port=$(PORT)

bench: venv
	for name in head training_loop rerank twins pack sweep page scale; do python benchmarks/$$name.py || exit 1; done
