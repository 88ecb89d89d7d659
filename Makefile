# Everything here sets itself up: `make demo` and `make test` need Python 3.11, gcc, make and a package index.
PYTHON   ?= $(shell command -v python3.11 || command -v python3)
VENV     := .venv
BIN      := $(VENV)/bin
DEMO_DIR ?= runs/demo
# A GPU that answers picks the CUDA build of vLLM, anything else the CPU build.
BUILD    := $(shell nvidia-smi -L >/dev/null 2>&1 && echo vllm || echo cpu)
EXTRAS   := train,$(BUILD),demo,postgres,web,dev
STAMP    := $(VENV)/installed-$(BUILD)
# uv does not read pip's settings; hand it the one that matters for wheels on disk.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Like pip, trust what the machine trusts: a registry may stand behind a proxy with a certificate of its own.
export UV_SYSTEM_CERTS ?= 1
# The CPU build of torch comes from wheels on disk where there are some, else from PyTorch's own index.
TORCH    := $(if $(filter cpu,$(BUILD)),$(if $(UV_FIND_LINKS),,--torch-backend cpu),)

# Every trainer and engine is a process of its own: without cached bytecode each compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: all demo methods test lint bench clean setup browser

all: lint test

setup: $(STAMP)

$(STAMP): pyproject.toml Makefile .ci/overrides-$(BUILD).txt .ci/constraints-$(BUILD).txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(TORCH) \
	  --overrides .ci/overrides-$(BUILD).txt --constraints .ci/constraints-$(BUILD).txt -e '.[$(EXTRAS)]'
	rm -f $(VENV)/installed-* && touch $@

demo: setup
	test -f $(DEMO_DIR)/selfreward.toml || $(BIN)/selfreward init $(DEMO_DIR) --preset demo
	$(BIN)/selfreward start --dir $(DEMO_DIR)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Debian's Chromium for tests/web. Where it cannot be had those tests skip, and say what would install it.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; \
	} >/dev/null 2>&1 || echo "no Chromium: the tests of the pages in a browser will be skipped"

# The many small databases of these tests lie in memory where there is plenty.
MEMORY   := $(shell test -w /dev/shm && test $$(df -k --output=avail /dev/shm | tail -n 1) -gt 4194304 && echo /dev/shm)
IN_MEMORY := $(if $(MEMORY),TMPDIR=$(MEMORY))

# Two at a time: starting servers and trainers is mostly waiting for imports on one core.
test: lint browser
	$(IN_MEMORY) $(BIN)/pytest -n 2 tests/unit
	$(IN_MEMORY) $(BIN)/pytest -n 2 tests/web tests/crash
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/integration

# Each preset of another method on the demo model, with the real engine and trainer: up to 45 minutes.
methods: setup
	$(BIN)/python -m tests.methods

bench: setup
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
