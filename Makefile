# make quickstart: set up and run the first experiment.  make test: the fast tests.  make check: all that CI asks.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test test-all check lint types imports faults bench model-names audit clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: .venv/.installed
	$(BIN)/harness run experiments/quickstart.yaml

test: .venv/.installed
	$(BIN)/python -m pytest -m 'not slow' -n 2

test-all: .venv/.installed
	$(BIN)/python -m pytest -n 2

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/mypy

imports: .venv/.installed
	$(BIN)/lint-imports

check: lint types imports test

faults: .venv/.installed
	$(BIN)/python -m pytest -n 0 tests/faults

DEVICE ?= cpu
bench: .venv/.bench
	$(BIN)/python -m tests.benchmarks --device $(DEVICE) --out results/reference/speed-$(DEVICE)

.venv/.bench: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,bench]'
	touch $@

# the names of torchvision's and timm's models that a plan knows without importing them
model-names: .venv/.bench
	$(BIN)/python -m tests.published_models

# known holes in the versions of constraints.txt; asks the network, so `check` and CI do not run it
audit: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[audit]'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
