# The verbs of the project. Every target installs what it needs into .venv by itself, so a machine
# with Python >= 3.11, pip and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What is downloaded has a hash in the repository, and runs no code while it is installed.
HASHED := --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: help demo test check generate docs bench fmt lock audit sbom clean simulate kill fuzz-api fuzz fuzz-atheris

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Penstock needs Python 3.11 or newer; set PYTHON=…")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created pyproject.toml requirements/runtime.txt requirements/build.txt
	$(PIP) install $(HASHED) -r requirements/build.txt -r requirements/runtime.txt
	$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements/dev.txt requirements/s3.txt
	$(PIP) install $(HASHED) -r requirements/dev.txt
	$(PIP) install $(HASHED) --upgrade --target $(VENV)/s3 -r requirements/s3.txt
	@touch $@

$(VENV)/.deploy: $(VENV)/.dev requirements/deploy.txt
	$(PIP) install $(HASHED) -r requirements/deploy.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.dev requirements/docs.txt
	$(PIP) install $(HASHED) -r requirements/docs.txt
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

# In a folder of its own, because no other code of the project may come to need what it brings.
$(VENV)/schemathesis/.done: $(VENV)/.dev requirements/schemathesis.txt
	$(PIP) install $(HASHED) --upgrade --target $(VENV)/schemathesis -r requirements/schemathesis.txt
	@touch $@

EXAMPLES ?= 100
fuzz-api: $(VENV)/schemathesis/.done ## fuzz the served OpenAPI, EXAMPLES=N an operation (docs/security.md)
	$(BIN)/python tools/fuzz_api.py --examples $(EXAMPLES)
	$(BIN)/python tools/fuzz_requests.py

INPUTS ?= 20000
fuzz: $(VENV)/.dev ## feed mutated inputs to every parser, INPUTS=N for each (docs/bad-input.md)
	$(BIN)/python tools/fuzz.py --inputs $(INPUTS)

$(VENV)/fuzz/.done: $(VENV)/.dev requirements/fuzz.txt
	$(PIP) install $(HASHED) --upgrade --target $(VENV)/fuzz -r requirements/fuzz.txt
	@touch $@

TARGET ?= line
SECONDS ?= 180
fuzz-atheris: $(VENV)/fuzz/.done ## fuzz one parser by its coverage, TARGET=json SECONDS=N
	$(BIN)/python tools/fuzz_atheris.py --target $(TARGET) --seconds $(SECONDS)

check: $(VENV)/.deploy $(VENV)/.docs ## lint, types, import contracts, size gates
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/gate.py
	$(BIN)/python tools/document_settings.py --check
	$(BIN)/python tools/document_reference.py --check
	$(BIN)/python tools/document_speed.py --check
	$(BIN)/python tools/build_site.py --check
	$(BIN)/python tools/make_blocking.py --check
	$(BIN)/python tools/lint_deploy.py

generate: $(VENV)/.dev ## make the blocking client from the async one, and the reference from the code
	$(BIN)/python tools/make_blocking.py
	$(BIN)/python tools/document_settings.py
	$(BIN)/python tools/document_reference.py
	$(BIN)/python tools/document_speed.py

docs: $(VENV)/.docs ## build the documentation into dist/site
	$(BIN)/python tools/build_site.py

bench: $(VENV)/.dev ## measure speed and memory (bench/README.md)
	$(BIN)/python bench/run.py

fmt: $(VENV)/.dev ## format and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# In an environment of its own: what judges the lock is not judged by its own dependencies.
$(VENV)/audit/.done: $(VENV)/.created requirements/audit.txt
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip --quiet install $(HASHED) -r requirements/audit.txt
	@touch $@

# A feed that cannot be reached, or does not know a package, is a failure and no clean bill.
audit: $(VENV)/audit/.done ## ask for known vulnerabilities of what is deployed
	$(VENV)/audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/runtime.txt

sbom: $(VENV)/audit/.done ## write what is deployed as dist/penstock.cdx.json (CycloneDX)
	@mkdir -p dist
	$(VENV)/audit/bin/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml \
		--output-reproducible --validate --output-file dist/penstock.cdx.json

# Resolved for every platform and Python at once; hashes instead of download addresses. Nothing that
# is younger than a week: a stolen release is mostly found and withdrawn within hours.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --exclude-newer "7 days" \
	--custom-compile-command "make lock"
lock: $(VENV)/.dev ## resolve the requirements again (upgrades them)
	$(LOCK) requirements/build.in -o requirements/build.txt --upgrade
	$(LOCK) pyproject.toml -o requirements/runtime.txt --upgrade
	$(LOCK) pyproject.toml --group dev -c requirements/runtime.txt -o requirements/dev.txt --upgrade
	$(LOCK) requirements/s3.in -o requirements/s3.txt --upgrade
	$(LOCK) requirements/fuzz.in -o requirements/fuzz.txt --upgrade
	$(LOCK) requirements/schemathesis.in -o requirements/schemathesis.txt --upgrade
	$(LOCK) requirements/audit.in -o requirements/audit.txt --upgrade
	$(LOCK) requirements/deploy.in -c requirements/dev.txt -o requirements/deploy.txt --upgrade
	$(LOCK) requirements/docs.in -c requirements/dev.txt -o requirements/docs.txt --upgrade

clean: ## remove what the targets made
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-output dist
