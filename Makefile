# make quickstart    the whole pipeline on drawn scenes        make test         the tests, in minutes
# make lint          style, types, declared dependencies       make test-long    the slow ones: DeepSpeed, quickstart, wheel
# make newest        the tests with the newest releases        make pins         take over the versions of `make newest`
# make docs          the documentation, in docs/_build/html    make links        its links to other sites, over the network
#
# Each makes .venv on first use, from the versions in requirements/tested.txt, and again when these or pyproject.toml
# have changed. `make newest` adds what is newer in .venv-newest. PYTHON=python3.12 and OUT=... choose.

PYTHON ?= python3
OUT ?= runs/quickstart
SEED ?= 0

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
TESTED := requirements/tested.txt
NEWEST := .venv-newest
MINUTES ?= 25
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# DeepSpeed compiles an operation at its first start; it is done at installation and kept in here.
export TORCH_EXTENSIONS_DIR := $(CURDIR)/$(VENV)/torch_extensions
# Compiled sources are kept, whatever the surroundings say: the tests start Python some hundred times.
export PYTHONDONTWRITEBYTECODE :=
# A process of tests a core, with a thread each. The short tests go to whoever has nothing left; the slow ones by groups
# (tests/collection.py), for the launches that they share.
SPREAD := --numprocesses auto

.PHONY: quickstart test test-long lint docs links newest pins install clean
.DEFAULT_GOAL := quickstart

quickstart: $(INSTALLED)
	@$(BIN)/semcore quickstart --out $(OUT) --seed $(SEED)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(SPREAD) --dist worksteal

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m slow $(SPREAD) --dist loadgroup --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/deptry .

# Warnings are errors; the pages are built from nothing, so that each is looked at.
docs: $(INSTALLED)
	$(BIN)/sphinx-build --fresh-env --fail-on-warning --keep-going --quiet docs docs/_build/html

links: $(INSTALLED)
	$(BIN)/sphinx-build --builder linkcheck --quiet docs docs/_build/links

# Gives up after MINUTES; $(NEWEST)/outcome.txt says in one line what came of it. KEEP=torch leaves torch as it is tested.
newest: $(INSTALLED)
	@requirements/newest.sh $(NEWEST) $(MINUTES) $(VENV) $(KEEP)

pins:
	@$(NEWEST)/bin/python requirements/pin.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml $(TESTED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "semcore needs Python 3.11 or newer: make PYTHON=python3.12")'
	@echo 'Installing into $(VENV), once; this takes some minutes.'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement $(TESTED)
	$(PIP) --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@mkdir -p $(TORCH_EXTENSIONS_DIR)
	$(BIN)/semcore env --build
	@touch $@

clean:
	rm -rf $(VENV) $(NEWEST) docs/_build docs/reference/commands
