# Tasks for a checkout. They need make and python3 (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCHMARKS := $(sort $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[!_]*.py)))

.DEFAULT_GOAL := help
TOOLS := $(VENV)/tools
LOCKED := $(BIN)/pip install --quiet --require-hashes --no-deps -r
SITE := $(VENV)/site
UNUSED := /(tests|testing|_inductor|cfnlint|moto|networkx|pip)/
.PHONY: help setup locked hooks demo serve test check bench samples notebooks docs site lock audit sbom dist \
	try clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: $(STAMP) ## create .venv with digitry and all its development packages

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "digitry needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Installing digitry and its development packages into $(VENV): about 3 GB, some minutes."
	@echo "pip says nothing meanwhile; to watch it, run: $(BIN)/pip install -e '.[dev]'"
	@$(PYTHON) -m venv $(VENV)
	@# pip would compile on one processor. What is left out here is compiled if it is ever imported.
	@$(BIN)/pip install --quiet --no-compile -e '.[dev]'
	@$(BIN)/python -m compileall -q -j 0 -x '$(UNUSED)' $(VENV)/lib src >/dev/null 2>&1 || true
	@touch $@
	@echo "Installed. To have digitry on your path: . $(BIN)/activate"

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
	@echo "Reading the samples, then training a model: about a minute."
	$(BIN)/digitry demo --out demo

serve: setup ## start the web page and the API on http://127.0.0.1:8000/
	$(BIN)/digitry serve $(ARGS)

test: setup ## run the tests; some need DIGITRY_TEST_DATA, a folder of real images
	@echo "Running the tests: 10 to 15 minutes on two quiet cores. CONTRIBUTING.md tells what skipped ones need."
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

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

notebooks: setup ## run the notebooks in examples/ and keep what their cells show
	$(BIN)/python examples/run.py

docs: setup ## write docs/cli.md, docs/measured.md, and the tables and numbers of the other pages
	$(BIN)/python docs/generate.py

site: $(SITE)/.installed ## build the guide into build/site; to see it while you write: make site ARGS=--serve
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs $(if $(findstring --serve,$(ARGS)),serve,build --quiet)
	@echo "The guide: build/site/index.html"

$(SITE)/.installed: requirements/site.txt
	@echo "Installing what builds the guide into $(SITE): about 300 MB, a minute or two."
	@$(PYTHON) -m venv --clear $(SITE)
	@$(SITE)/bin/pip install --quiet --require-hashes --no-deps -r requirements/site.txt
	@touch $@

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

try: dist ## install the wheel alone in an empty environment, and read a sample with it
	@echo "Installing the wheel into build/try: about 400 MB."
	@$(PYTHON) -m venv --clear build/try
	@build/try/bin/pip install --quiet dist/*.whl
	cd build && test "$$(try/bin/digitry read ../samples/phone-number.jpg)" = "030 901820"
	@echo "The wheel reads a phone number."

$(TOOLS)/.installed: requirements/tools.txt
	$(PYTHON) -m venv --clear $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --require-hashes --no-deps -r requirements/tools.txt
	@touch $@

clean: ## remove generated files; .venv and your runs stay
	rm -rf build dist demo out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks docs samples -name __pycache__ -prune -exec rm -rf {} +
