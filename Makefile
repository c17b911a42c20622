# Every target sets up what it needs on a machine that has only make and python3 (with venv).
# A developer who has an environment can reuse it: make test VENV=path/to/venv

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.convscope-ready
# A worker loads torch (about 0.5 GB), so a large machine gets eight, not one for each processor.
# Each computes in one thread: tests/conftest.py.
WORKERS ?= -n auto --maxprocesses 8
# More options for pytest: make test ARGS="-k schedules"
ARGS ?=
HOUSE_RULES := $(wildcard tests/test_house.py tests/test_surface.py tests/test_options.py tests/test_docs.py)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-browser test-floors torture mutants coverage check docs dist bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## the main job on built-in data, offline, in a few minutes
	$(BIN)/convscope demo

test: $(READY) ## the tests, without the slow ones
	$(BIN)/python -m pytest $(WORKERS) --durations=10 $(ARGS)

test-all: $(READY) ## all the tests
	$(BIN)/python -m pytest $(WORKERS) --durations=10 -m "" $(ARGS)

test-browser: $(READY) ## the page in Chromium, where that is installed
	$(BIN)/python -m pytest -n 0 -m browser --durations=5 $(ARGS) tests/test_page_in_browser.py tests/test_boxes_in_browser.py || test $$? -eq 5

# Old releases beside the newest of their own dependencies warn, so a warning is no error here. Gigabytes: not for CI.
FLOORS := .venv-floors
test-floors: ## the tests with the lowest versions that pyproject.toml allows
	test -x $(FLOORS)/bin/python || $(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python -m pip install -qq --disable-pip-version-check "pip>=25.1" packaging
	$(FLOORS)/bin/python tests/floors.py > $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install -qq --disable-pip-version-check -c $(FLOORS)/floors.txt -e . --group test
	$(FLOORS)/bin/python -m pytest $(WORKERS) -W default $(ARGS)

# An hour on 2 cores: make torture SEED=7 N=0.1 makes other attempts, and fewer.
SEED ?= 0
N ?= 1
torture: $(READY) ## seeded attacks: kills, crash points, rot, hostile files, requests ...
	PYTHONPATH=tests $(BIN)/python -m torture --seed $(SEED) --times $(N) $(ARGS)

# Each small change of five files has to turn one of their tests red. make mutants ARGS=--left lists those that do not.
mutants: $(READY) ## mutation tests of metrics, intervals, splits, storage, randomness
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt --group mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2 > mutants.log
	$(BIN)/python tests/mutants.py $(ARGS)

coverage: $(READY) ## the tests, and the lines of src that they run
	$(BIN)/python -m pytest $(WORKERS) --cov=src/convscope --cov-report=term $(ARGS)

check: $(READY) ## style, format, types and the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/python -m pytest $(HOUSE_RULES)

docs: $(READY) ## the documentation, into docs/_build
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build
	@echo "docs/_build/index.html"

dist: $(READY) ## sdist and wheel, into dist
	$(BIN)/python -m pip install -qq --disable-pip-version-check build
	$(BIN)/python -m build
	@ls -l dist

# Those that are asked about runs, or train hundreds, by name: bench/seconds_to.py RUN, bench/equal_recipes.py.
OF_RUNS = bench/gpu.py bench/seconds_to.py bench/convolution_accuracy.py bench/unknown.py bench/equal_recipes.py bench/page.py bench/segmentation.py

# One after the other, alone on the machine: two benchmarks at once would measure each other.
bench: $(READY) ## each claim of speed, measured against its peer
	@for file in $(filter-out bench/paired.py $(OF_RUNS),$(sort $(wildcard bench/*.py))); do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

# .venv by its name: an environment given with VENV= is not ours to delete.
clean: ## remove what make made: .venv, .venv-floors, docs/_build, caches (runs stay)
	rm -rf .venv .venv-floors docs/_build dist .pytest_cache .ruff_cache .hypothesis mutants mutants.log
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is raised first: --group needs 25.1, and the pip that venv puts there may be years older. The groups are worth
# it because they stay out of the published package. -qq shows errors only: the warnings are about the index, not us.
$(READY): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "convscope needs Python 3.11 or newer, and $(PYTHON) is not that: name one with make PYTHON=python3.12." >&2; exit 1; }; \
	  echo "Making $(VENV), once; torch takes several GB and a few minutes."; \
	  $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check "pip>=25.1"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e . --group dev
	@touch $@
