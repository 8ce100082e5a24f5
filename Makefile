.PHONY: demo test check bench docs wheel-test clean
.DEFAULT_GOAL := test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 4

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("fastapi-prodkit needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group test --group lint --group docs --group demo
	touch $@

demo: $(VENV)/.installed  ## serve examples/showcase on http://127.0.0.1:8000
	@$(BIN)/python -m examples.showcase

test: $(VENV)/.installed  ## run the tests against real servers that the tests start
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.installed  ## lint, types, import contracts, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zensical build --strict --clean
	$(BIN)/pytest -q tests/test_docs.py

bench:  ## side by side with the packages people use instead
	bash benchmarks/run.sh $(SUITE)

clean:
	rm -rf $(VENV) .venv-* site dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
