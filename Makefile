# make pretrain: set everything up and pretrain a small masked autoencoder on the images that come with the repository
# make quick:    run the tests that start no process and take little time; the loop of every commit
# make test:     set everything up, check the style and the types and run all tests
# make docs:     build the site into build/site; an unknown reference or a broken link is an error
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
UNFINISHED := $(VENV)/unfinished
WORK_DIR ?= work_dirs/quickstart
# The first Python that fits; choose another with make PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do $(FITS) $$p && echo $$p && break; done)
FITS := fits() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }; fits

.PHONY: help setup check-python pretrain quick test docs lint types format clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

setup: $(STAMP)

check-python:
	@test -n "$(PYTHON)" || { echo 'error: no Python 3.11 to 3.13 with venv is on the path; name one: make PYTHON=/path/to/python'; exit 2; } >&2
	@$(FITS) "$(PYTHON)" || { echo 'error: $(PYTHON) is not Python 3.11 to 3.13 with venv; name another: make PYTHON=/path/to/python'; exit 2; } >&2

# An install that was cut short leaves UNFINISHED, and the next one starts afresh.
$(STAMP): setup.py requirements/ci.txt
	@$(MAKE) --no-print-directory check-python
	@if test -e $(UNFINISHED); then rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(UNFINISHED) && rm -f $(STAMP)
	@echo 'Installing into $(VENV) with $(PYTHON): a few minutes and about 7 GB.'
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,seg,det,embed,labels,weights,cluster,explain,demo,docs]' -c requirements/ci.txt
	@# MMCV and MMDetection's imaug require opencv-python, which writes the same folder as the headless one and needs a
	@# display's libraries.
	$(BIN)/python -m pip install --disable-pip-version-check --force-reinstall --no-deps opencv-python-headless -c requirements/ci.txt
	@mv $(UNFINISHED) $(STAMP)

pretrain: $(STAMP)
	$(BIN)/python tools/train.py configs/pretrain/quickstart.py --work-dir $(WORK_DIR) $(if $(wildcard $(WORK_DIR)/*.pth),--resume)

quick test: export OMP_NUM_THREADS := 1
# Tests start many processes, each of which would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

quick: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not process and not slow'

# The types are checked beside the tests, some of which wait for other programs; what is found is printed at the end.
test: lint
	@$(BIN)/mypy >$(VENV)/types.txt & types=$$!; \
	$(BIN)/python -m pytest -n 3 --dist worksteal; status=$$?; \
	wait $$types || status=1; cat $(VENV)/types.txt; exit $$status

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'To read it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site, then http://127.0.0.1:8000'

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
