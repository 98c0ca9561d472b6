# Everything runs in $(VENV), which `make` creates and fills on first use. Run `make` for the list of targets.
# Stamp files in $(VENV) remember what is installed, so a second call installs nothing until pyproject.toml changes.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?=
VENV ?= .venv
ARGS ?=
MEASURE ?=
# Two workers: each pays the imports of torch and lightning once, side by side. 0 runs the tests in one process.
WORKERS ?= 2
# `data_resume` and `kills` take minutes, and the other files named data_ are parts of benchmarks/data.py.
BENCH ?= $(filter-out benchmarks/gpu_report.py benchmarks/data_%.py benchmarks/kills.py,$(wildcard benchmarks/*.py))

BIN := $(VENV)/bin
CODE := $(wildcard lingen_kit callbacks eval tests benchmarks)

# Shell code, run under the lock: leaves a working interpreter in $(VENV) and the installer's command in $$install.
define prepare
  exec 9>"$(VENV).lock"
  if command -v flock >/dev/null; then flock 9; fi
  uv=""
  if uv --version >/dev/null 2>&1; then uv=uv; fi
  if ! "$(BIN)/python" -c "" >/dev/null 2>&1; then
    if [ -e "$(VENV)" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then
      echo "VENV=$(VENV) exists and is no virtual environment: name another folder, or remove it." >&2
      exit 1
    fi
    rm -rf "$(VENV)"
    if [ -n "$$uv" ]; then
      echo "Creating $(VENV) with uv"
      uv venv --quiet --python "$(or $(PYTHON),>=3.11,<3.14)" "$(VENV)"
    else
      python=""
      for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do
        if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then
          python="$$candidate"
          break
        fi
      done
      if [ -z "$$python" ]; then
        echo "No Python 3.11, 3.12 or 3.13 found (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3))." >&2
        echo "Fix: install one and name it, as in 'make $(firstword $(MAKECMDGOALS)) PYTHON=/path/to/python3.12'," >&2
        echo "or install uv, which fetches a Python by itself: curl -LsSf https://astral.sh/uv/install.sh | sh" >&2
        exit 1
      fi
      echo "Creating $(VENV) with $$python"
      if ! "$$python" -m venv "$(VENV)" >"$(VENV).log" 2>&1; then
        rm -rf "$(VENV)"
        cat "$(VENV).log" >&2
        rm -f "$(VENV).log"
        echo "$$python cannot create a virtual environment that holds pip." >&2
        echo "Fix: install its venv module (Debian, Ubuntu: 'sudo apt install python3-venv')," >&2
        echo "or install uv, which needs neither: curl -LsSf https://astral.sh/uv/install.sh | sh" >&2
        exit 1
      fi
      rm -f "$(VENV).log"
    fi
  fi
  if [ -z "$$uv" ] && ! "$(BIN)/uv" --version >/dev/null 2>&1; then
    "$(BIN)/python" -m pip install --quiet --disable-pip-version-check uv \
      || echo "uv cannot be installed: going on with pip, which is slower"
  fi
  if [ -z "$$uv" ] && "$(BIN)/uv" --version >/dev/null 2>&1; then uv="$(BIN)/uv"; fi
  if [ -n "$$uv" ]; then
    install="$$uv pip install --quiet --python $(BIN)/python"
  else
    install="$(BIN)/python -m pip install --quiet --disable-pip-version-check"
  fi
endef

.PHONY: help
help:  ## Show this list
	@echo "Targets:"
	sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || sed -nE 's/^([a-z-]+):.*## (.*)/  \1  \2/p' Makefile
	echo "Variables: VENV=$(VENV) PYTHON=$(or $(PYTHON),<first of 3.11 to 3.13>) WORKERS=$(WORKERS) ARGS=<passed on> BENCH=<scripts>"

.PHONY: install
install: $(VENV)/.installed-core  ## Install the kit into .venv, editable

.PHONY: quickstart
quickstart: $(VENV)/.installed-core  ## Install, then train a small LinGen on moving shapes (about 5 minutes on 2 cores)
	@"$(BIN)/python" -m lingen_kit fit --config experiments/quickstart.yaml $(ARGS)

.PHONY: test
test: $(VENV)/.installed-test  ## Install what tests need, then run them (WORKERS=0 for one process, ARGS="-k mate -x")
	@"$(BIN)/python" -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: lint
lint: $(VENV)/.installed-dev  ## Check format, rules, types and who imports whom; change nothing
	@"$(BIN)/ruff" format --check $(CODE)
	"$(BIN)/ruff" check $(CODE)
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

.PHONY: format
format: $(VENV)/.installed-dev  ## Format the code and fix what ruff can fix
	@"$(BIN)/ruff" format $(CODE)
	"$(BIN)/ruff" check --fix $(CODE)

.PHONY: hooks
hooks: $(VENV)/.installed-dev  ## Run the linters before each git commit
	@"$(BIN)/pre-commit" install

.PHONY: bench
bench: $(VENV)/.installed-bench  ## Run the benchmarks: ratios side by side (BENCH=benchmarks/ssd.py for one)
	@for script in $(BENCH); do
	  echo "== $$script"
	  "$(BIN)/python" "$$script" $(ARGS)
	done

.PHONY: gpu-report
gpu-report: $(VENV)/.installed-core  ## On a GPU: compare the kernels, measure LinGen-4B and DiT-4B, write docs/results/
	@"$(BIN)/python" benchmarks/gpu_report.py $(ARGS)

.PHONY: reproduction
reproduction: $(VENV)/.installed-test  ## Rebuild docs/reproduction.md from shipped results (MEASURE=1: measure them anew)
	@if [ -n "$(MEASURE)" ]; then "$(BIN)/python" -m benchmarks.reproduction.measure $(ARGS); fi
	"$(BIN)/python" -m benchmarks.reproduction.document

.PHONY: docs
docs: $(VENV)/.installed-test  ## Build the documentation's site in build/site; broken links are errors
	@NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --strict

.PHONY: clean
clean:  ## Remove caches and build products; runs/ and .venv stay
	@rm -rf build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
	find $(CODE) -type d -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean  ## Remove .venv as well; runs/ stays
	@rm -rf "$(VENV)" "$(VENV).lock"

# One after another even under `make -j`: two installers at work in one environment would break it.
$(VENV)/.installed-core: pyproject.toml
	@$(prepare)
	echo "Installing lingen_kit into $(VENV) (PyTorch is large: the first time takes minutes)"
	$$install -e .
	touch $@

$(VENV)/.installed-bench: pyproject.toml $(VENV)/.installed-core
	@$(prepare)
	echo "Installing what the benchmarks compare with"
	$$install -e '.[bench]'
	touch $@

$(VENV)/.installed-test: pyproject.toml $(VENV)/.installed-core
	@$(prepare)
	echo "Installing what the tests need"
	$$install -e '.[test]'
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed-test
	@$(prepare)
	echo "Installing the linters"
	$$install -e '.[dev]'
	touch $@
