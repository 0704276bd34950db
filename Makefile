# Everything a newcomer needs: `make run`. Only Python 3.11 or newer and make must be there.
#
# The environment lives in .venv and is made once; it is brought up to date when a file changes that names
# dependencies. PYTHON=… chooses the interpreter, ARGS=… is passed to the command behind `run` and `test`.
#
# torch: on Linux the usual wheel brings gigabytes of CUDA. TORCH_INDEX=<url of an index with PyTorch's CPU
# wheels> takes that one package from there; without it pip does what it is configured to do.

VENV := .venv
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
TORCH_INDEX ?=
TORCH := $(shell grep '^torch==' constraints.txt)
NEEDS := setup.cfg setup.py pyproject.toml constraints.txt
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

# pip says what it fetches, which takes minutes the first time; what is there already is no news.
NEWS := | { grep -v '^Requirement already satisfied' || true; }
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.DEFAULT_GOAL := help
.PHONY: help run test lint contract audit chaos recovery bench-engine bench-gpu bench-queues bench-money clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.run ## Start everything and make a first picture (ARGS=--once: end after it)
	@$(VENV)/bin/pingvas up $(ARGS)

test: $(VENV)/.dev ## Run all tests (ARGS=tests/jobs: some)
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/.dev ## Check style, types and who may import whom
	test ! -e platform/__init__.py  # a package of that name would shadow the standard library's
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

contract: $(VENV)/.dev ## Try generated requests against the API's document for ten minutes (SEED=7)
	CONTRACT_SECONDS=600 CONTRACT_SEED=$(or $(SEED),$(shell date +%j)) $(VENV)/bin/python -m pytest tests/contract -o timeout=1200

audit: $(VENV)/.dev ## Look for known holes in the installed versions; says so where there is no network
	@out=$$($(VENV)/bin/pip-audit --skip-editable --progress-spinner off 2>&1) && { echo "$$out"; exit 0; }; \
	if grep -q 'ConnectionError\|ProxyError\|Timeout\|ServiceError' <<<"$$out"; then \
		echo "No network: nothing was looked up."; else echo "$$out"; exit 1; fi

chaos: $(VENV)/.dev ## Break everything under 1,000 orders and prove the books (ARGS="--seed 1 --jobs 60 --faults 6")
	@$(VENV)/bin/python -m tests.chaos $(ARGS)

recovery: $(VENV)/.dev ## Do each fault of docs/reliability.md and time what it costs, in 16 minutes (ARGS=beat: some)
	@$(VENV)/bin/python -m tests.recovery $(ARGS)

bench-engine: $(VENV)/.run ## Measure the engine with the built-in model, on one CPU thread (ARGS=paused: some)
	@$(VENV)/bin/python -m gpu_worker.bench cpu $(ARGS)

# With .venv where there is one; else with an interpreter that has torch for CUDA, diffusers, transformers and peft.
bench-gpu: ## Measure the engine on the CUDA device, needing no network (ARGS=sd15: some)
	@$(or $(wildcard $(VENV)/bin/python),$(PYTHON)) -m gpu_worker.bench gpu $(ARGS)

bench-queues: $(VENV)/.dev ## Measure the order between tiers, on Redis and on RabbitMQ (ARGS=shares: some)
	@$(VENV)/bin/python -m tasks.bench $(ARGS)

bench-money: $(VENV)/.run ## Measure the monthly reset (ARGS="--users 1000000": a million)
	@$(VENV)/bin/python -m tasks.bench.resets $(ARGS)

clean: ## Remove the environment and caches; data in var/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.run: $(VENV)/.torch $(NEEDS)
	$(PIP) install -c constraints.txt -e '.[gpu]' $(NEWS)
	@touch $@

$(VENV)/.dev: $(VENV)/.torch $(NEEDS)
	$(PIP) install -c constraints.txt -e '.[gpu,dev]' $(NEWS)
	@touch $@

$(VENV)/.torch: constraints.txt | $(VENV)/bin/python
	@echo "Installing what Pingvas needs; the first time this takes a few minutes."
	@$(if $(TORCH_INDEX),$(PIP) install --no-deps --index-url '$(TORCH_INDEX)' '$(TORCH)')
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name one: make run PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is too old: Python 3.11 or newer is needed."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Could not make $(VENV); on Debian: apt install python3-venv"; exit 1; }
