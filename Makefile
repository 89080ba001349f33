# make quickstart    the whole pipeline on drawn scenes        make test         the tests, in minutes
# make lint          style and types                           make test-long    the slow ones: DeepSpeed, quickstart, wheel
#
# Each makes .venv on first use and whenever pyproject.toml has changed. PYTHON=python3.12 and OUT=... choose.

PYTHON ?= python3
OUT ?= runs/quickstart
SEED ?= 0

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# DeepSpeed compiles an operation at its first start; it is done at installation and kept in here.
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/torch_extensions

.PHONY: quickstart test test-long lint install clean
.DEFAULT_GOAL := quickstart

quickstart: $(INSTALLED)
	@$(BIN)/semcore quickstart --out $(OUT) --seed $(SEED)

test: $(INSTALLED)
	$(BIN)/python -m pytest

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "semcore needs Python 3.11 or newer: make PYTHON=python3.12")'
	@echo 'Installing into $(VENV), once; this takes some minutes.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[quickstart,dev]'
	@mkdir -p $(TORCH_EXTENSIONS_DIR)
	$(BIN)/semcore env --build
	@touch $@

clean:
	rm -rf $(VENV)
