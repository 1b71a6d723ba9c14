# One target a need; `make help` lists them. Stamps in .venv keep `make setup` quick when nothing changed.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
KERNELS := $(wildcard $(foreach d,cython_shuffle sabotd/formats,$(d)/*.pyx $(d)/*.pxd $(d)/kernels/*))
STUBS = $(subst /,.,$(basename $(wildcard $(foreach d,cython_shuffle sabotd/formats,$(d)/_*.pyi))))
PACKAGES := sabot planner sql_frontend cython_shuffle sabotd repl
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build services check test acceptance fuzz test-cluster golden bench bench-shuffle demo docs wheel format clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.kernels ## a .venv with everything in it, kernels compiled; quick when up to date

$(VENV)/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@sh scripts/setup.sh $(VENV)
	@touch $@

$(VENV)/.kernels: $(VENV)/.installed setup.py $(KERNELS)
	@echo "compiling the kernels"
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

build: setup ## compile the kernels again, whatever the stamps say
	$(BIN)/python setup.py --quiet build_ext --inplace --force
	@touch $(VENV)/.kernels

services: setup ## the real servers that tests talk to: PostgreSQL, Mosquitto, Apache Kafka
	@bash scripts/test-services.sh

check: setup ## formatting, lint, types, layers, spelling, configuration
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/cython-lint $(filter %.pyx %.pxd,$(KERNELS))
	$(BIN)/codespell
	$(BIN)/stubtest $(STUBS) --mypy-config-file pyproject.toml --allowlist scripts/stubtest-allow.txt --ignore-unused-allowlist --concise
	$(BIN)/sabotd --check-config conf/sabotd.toml

test: setup services ## every test
	$(BIN)/pytest $(PYTEST_ARGS)

acceptance: setup ## other systems' cases from a folder: CASES=folder
	@test -d "$(CASES)" || { echo "acceptance: say where the cases are: make acceptance CASES=folder" >&2; exit 1; }
	$(BIN)/pytest tests/acceptance --acceptance-cases "$(CASES)" $(PYTEST_ARGS)

fuzz: setup ## random views and histories beside DuckDB's answers; MINUTES=10 SEED=1
	$(BIN)/python -m tests.oracle.fuzz --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(if $(CASES),--cases $(CASES))

test-cluster: setup services ## hosts in network namespaces, twenty rounds of faults (root); ROUNDS=20 SEED=1
	$(BIN)/python -m tests.cluster.run --rounds $(or $(ROUNDS),20) --seed $(or $(SEED),1)

golden: setup ## write the golden plans anew; look at the difference before you commit it
	$(BIN)/pytest tests/golden --update-golden -p no:randomly

bench: setup ## all Nexmark queries beside DuckDB's batch, then a state that grows to 20 M rows
	$(BIN)/python bench/nexmark.py
	$(BIN)/python -m bench.growth

bench-shuffle: setup ## kernels, the Flight hop, barriers, two agents against one
	$(BIN)/python bench/shuffle.py

demo: setup ## ten seconds of a live view, then its plan
	@$(BIN)/python -m repl.demo

docs: setup ## check that links in docs/ and README.md lead somewhere
	$(BIN)/pytest -q tests/packaging/test_docs.py

wheel: setup ## dist/*.whl
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## everything that can be made again, the .venv too
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(PACKAGES) tests bench \( -name '*.so' -o -name '__pycache__' \) -prune -exec rm -rf {} +
