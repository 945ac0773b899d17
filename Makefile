# Tasks for a checkout. They need make and python3 (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS := $(sort $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[!_]*.py)))

.DEFAULT_GOAL := help
TOOLS := $(VENV)/tools
LOCKED := $(BIN)/pip install --quiet --require-hashes --no-deps -r
.PHONY: help setup locked hooks demo serve test check bench samples docs lock audit sbom dist clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(STAMP) ## create .venv with digitry and all its development packages

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "digitry needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

locked: ## create .venv from the locks: exactly these versions, each file checked by its sha256
	$(PYTHON) -m venv --clear $(VENV)
	$(LOCKED) requirements/dev.txt
	@$(LOCKED) requirements/cpu.txt 2>/dev/null || { \
		echo "torch: pip finds no locked CPU build; installing the package index's build"; \
		$(LOCKED) requirements/torch.txt; }
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/pip check
	@touch $(STAMP)

hooks: setup ## run the checks at every git commit, by pre-commit
	$(BIN)/pre-commit install

demo: setup ## read the samples, train a model, write its report
	@rm -rf demo
	$(BIN)/digitry demo --out demo

serve: setup ## start the web page and the API on http://127.0.0.1:8000/
	$(BIN)/digitry serve $(ARGS)

test: setup ## run the tests; some need DIGITRY_TEST_DATA, a folder of real images
	$(BIN)/python -m pytest

check: setup ## check format, lint, types, layers and generated documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: setup ## run all benchmarks, or one: make bench BENCH=reading ARGS=--help
	@for name in $(or $(BENCH),$(BENCHMARKS)); do \
		echo "== $$name"; $(BIN)/python benchmarks/$$name.py $(ARGS) || exit 1; done

samples: setup ## draw the sample pictures again
	$(BIN)/python samples/draw.py
	$(BIN)/python samples/forms.py

docs: setup ## write docs/cli.md, docs/measured.md and the tables of README.md
	$(BIN)/python docs/generate.py

lock: $(TOOLS)/.installed ## write the locks from pyproject.toml; newest versions: make lock ARGS=--upgrade
	$(TOOLS)/bin/python requirements/refresh.py $(ARGS)

audit: $(TOOLS)/.installed ## look up known vulnerabilities of the locked versions; ARGS="--strict --database ZIP"
	@$(TOOLS)/bin/python requirements/audit.py $(ARGS)

sbom: setup $(TOOLS)/.installed ## write build/sbom.json, the installed packages (CycloneDX)
	@$(TOOLS)/bin/python requirements/sbom.py $(BIN)/python build/sbom.json

dist: $(TOOLS)/.installed ## build the source distribution and the wheel into dist/, and check them
	rm -rf dist
	$(TOOLS)/bin/python -m build --outdir dist .
	$(TOOLS)/bin/python -m twine check --strict dist/*

$(TOOLS)/.installed: requirements/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --require-hashes --no-deps -r requirements/tools.txt
	@touch $@

clean: ## remove generated files; .venv and your runs stay
	rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs samples -name __pycache__ -prune -exec rm -rf {} +
