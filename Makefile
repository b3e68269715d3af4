# The verbs of the project. Every target installs what it needs into .venv by itself, so a machine
# with Python >= 3.11, pip and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test check bench fmt lock clean simulate kill

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Penstock needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created pyproject.toml requirements/runtime.txt requirements/build.txt
	$(PIP) install --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt requirements/s3.txt
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --require-hashes --upgrade --target $(VENV)/s3 -r requirements/s3.txt
	@touch $@

$(VENV)/.deploy: $(VENV)/.dev requirements/deploy.txt
	$(PIP) install --require-hashes -r requirements/deploy.txt
	@touch $@

demo: $(VENV)/.runtime ## run 200 requests end to end on this machine, no account needed
	$(BIN)/python tools/demo.py

test: $(VENV)/.dev ## run every test, with the coverage gates
	$(BIN)/python tools/run_tests.py

SEEDS ?= 2000
SIMULATE := --processes 2
simulate: $(VENV)/.dev ## kill simulated workers, SEEDS=N histories (docs/reliability.md)
	$(BIN)/python tools/simulate.py --seeds $(SEEDS) $(SIMULATE)

KILL := --pairs --triples 450 --processes 2
kill: $(VENV)/.dev ## kill real servers at each point and pair of points (docs/reliability.md)
	$(BIN)/python tools/kill.py $(KILL)

check: $(VENV)/.deploy ## lint, types, import contracts, size gates
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/gate.py
	$(BIN)/python tools/document_settings.py --check
	$(BIN)/python tools/lint_deploy.py

bench: $(VENV)/.dev ## measure speed and memory (bench/README.md)
	$(BIN)/python bench/run.py

fmt: $(VENV)/.dev ## format and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Resolved for every platform and Python at once; hashes instead of download addresses.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: $(VENV)/.created ## resolve the requirements again (upgrades them)
	$(PIP) install uv
	$(LOCK) requirements/build.in -o requirements/build.txt --upgrade
	$(LOCK) pyproject.toml -o requirements/runtime.txt --upgrade
	$(LOCK) pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt --upgrade
	$(LOCK) requirements/s3.in -o requirements/s3.txt --upgrade
	$(LOCK) requirements/deploy.in -c requirements/dev.txt -o requirements/deploy.txt --upgrade

clean: ## remove what the targets made
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output dist
