# graftwork. `make` alone prints the targets.

# Which lock to install: cpu, or cuda. Once cuda is set up it stays the choice until `make clean`.
LOCK ?= $(if $(wildcard .venv/.locked-cuda-*),cuda,cpu)
# Interpreter to create .venv with; empty: the first of CANDIDATES that runs and is recent enough.
PYTHON ?=
# Where the CPU build of torch comes from on Linux; empty: only the package index pip is configured with.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Parallel test processes.
WORKERS ?= 2

CANDIDATES := python3.13 python3.12 python3.11 python3
BIN := .venv/bin
# pip refuses to run unless .venv really is an environment, so it can never change another Python.
PIP := $(BIN)/python -m pip --require-virtualenv --disable-pip-version-check
# Rules that call `python` find the one in .venv without it being activated.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

LOCKFILE := requirements/$(LOCK).txt
ifeq ($(wildcard $(LOCKFILE)),)
$(error LOCK=$(LOCK): there is no $(LOCKFILE); use LOCK=cpu or LOCK=cuda)
endif
# The stamp carries the checksum of all that is installed: the lock, and the package that pyproject.toml describes.
# When one of them changes, the stamp has another name and `make setup` installs again.
STAMP := .venv/.locked-$(LOCK)-$(firstword $(shell cat $(LOCKFILE) pyproject.toml | cksum))

.DEFAULT_GOAL := help
.PHONY: help setup setup-cuda demo test test-slow test-gpu lint format lock clean

help:  ## Print this list
	@echo 'Usage: make TARGET [LOCK=cpu|cuda] [PYTHON=python3.12] [TORCH_INDEX=URL] [WORKERS=2]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1	\2/p' Makefile | expand -t 14

setup: $(STAMP)  ## Create .venv; install the lock and graftwork itself (again only if one of them has changed)
	@:

setup-cuda:  ## The same with CUDA, for real models on an NVIDIA GPU
	@$(MAKE) --no-print-directory setup LOCK=cuda

demo: setup  ## Build the default target: the demo, on the miniature models
	$(RUN) snakemake

test: setup  ## Run the tests that need no GPU and no downloaded weights, but for the slow ones
	$(RUN) python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow' tests --ignore=tests/gpu

test-slow: setup  ## Run the slow ones: kills, faults, failing cells, the commands of the pages, a Slurm cluster where it is installed
	$(RUN) python -m pytest -n $(WORKERS) --dist worksteal -m slow tests --ignore=tests/gpu

test-gpu:  ## Run the tests that need an NVIDIA GPU, and the benchmark, with random weights
	tests/gpu/run

lint: setup  ## Check style and formatting, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(RUN) snakemake --lint

format: setup  ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

lock:  ## Resolve requirements/*.in again (needs uv; versions already locked stay where they fit)
	$(call RESOLVE,cpu,--overrides cpu-overrides.txt)
	$(call RESOLVE,cuda)

# uv repeats on every line that this is for Linux and macOS (tool.uv in pyproject.toml): that goes.
EVERYWHERE := ; sys_platform == 'darwin' or sys_platform == 'linux'
UV_COMPILE := uv pip compile --universal --python-version 3.11 --default-index https://pypi.org/simple
define RESOLVE
	cd requirements && $(UV_COMPILE) --quiet --no-header $(1).in $(2) -o $(1).txt
	{ echo '# Made by `make lock`, which runs, in requirements/, $(shell uv --version | cut -d" " -f1,2):'; \
	  echo '#   $(UV_COMPILE) $(1).in $(2)'; \
	  echo '# Every dependency, for Python 3.11 and later on Linux and macOS.'; \
	  sed "s/ $(EVERYWHERE)$$//" requirements/$(1).txt; } > requirements/$(1).tmp
	mv requirements/$(1).tmp requirements/$(1).txt
endef

clean:  ## Remove .venv and caches; results/ and .snakemake/ stay
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './results/*' -prune -exec rm -rf {} +

# ---- The installation -------------------------------------------------------------------------------

# Exits 0 if this Python can make our environment, else says why not.
define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("is Python %d.%d, older than 3.11" % sys.version_info[:2])
try:
    import venv, ensurepip
except ImportError:
    sys.exit("lacks venv or ensurepip (on Debian and Ubuntu: install python3-venv)")
endef
export CHECK_PYTHON

# Exits 0 if .venv is whole. Without its pyvenv.cfg, .venv/bin/python would be the Python it was made from.
define CHECK_VENV
import os, sys, pip
sys.exit(sys.prefix == sys.base_prefix or os.path.realpath(sys.prefix) != os.path.realpath(".venv"))
endef
export CHECK_VENV

# Exits 0 if the index answers within seconds: pip would try an unreachable one again and again.
# Only reachability is asked here, so certificates are left to pip, which checks them.
define CHECK_INDEX
import signal, ssl, sys, urllib.request
signal.alarm(8)
request = urllib.request.Request(sys.argv[1].rstrip("/") + "/torch/", method="HEAD")
try:
    urllib.request.urlopen(request, timeout=4, context=ssl._create_unverified_context())
except Exception as error:
    sys.exit(str(error))
endef
export CHECK_INDEX

# graftwork is built with the setuptools of the lock (torch requires it on every Python version), so nothing outside the
# lock is downloaded for it.
#
# .unfinished marks an installation under way. Where it is found, the last one was interrupted, perhaps
# in the middle of a package, and the environment is made anew.
$(STAMP):
	@set -eu; \
	rm -f .venv/.locked-*; \
	if [ -e .venv/.unfinished ] || ! $(BIN)/python -c "$$CHECK_PYTHON" 2>/dev/null || \
	    ! $(BIN)/python -c "$$CHECK_VENV" 2>/dev/null; then \
	  found=; said=; \
	  for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	    if why=$$("$$candidate" -c "$$CHECK_PYTHON" 2>&1); then found=$$candidate; break; fi; \
	    said="$$said  $$candidate: $$(printf '%s\n' "$$why" | head -n 1)\n"; \
	  done; \
	  if [ -z "$$found" ]; then \
	    printf 'graftwork needs Python 3.11 or later, and none of these will do:\n%b' "$$said" >&2; \
	    echo 'Install one, or name it: make setup PYTHON=/path/to/python3.12' >&2; \
	    exit 1; \
	  fi; \
	  echo "Creating .venv with $$found ($$("$$found" -V))"; \
	  rm -f .venv/pyvenv.cfg; \
	  rm -rf .venv; \
	  "$$found" -m venv .venv; \
	fi; \
	touch .venv/.unfinished; \
	$(BIN)/python -c "$$CHECK_VENV" || { echo 'Error: .venv could not be created; try make clean' >&2; exit 1; }; \
	echo 'Installing $(LOCKFILE)'; \
	torch=$$(grep '^torch==' $(LOCKFILE) | cut -d' ' -f1); \
	if [ $(LOCK) = cpu ] && [ -n '$(TORCH_INDEX)' ] && [ "$$(uname)" = Linux ]; then \
	  if why=$$($(BIN)/python -c "$$CHECK_INDEX" '$(TORCH_INDEX)' 2>&1); then \
	    $(PIP) install --no-deps --extra-index-url '$(TORCH_INDEX)' "$$torch"; \
	  else \
	    echo 'Note: $(TORCH_INDEX) does not answer'" ($$why); torch comes from the usual"; \
	    echo 'package index instead. If that has no CPU build, the CUDA packages (gigabytes) come too.'; \
	  fi; \
	fi; \
	if [ $(LOCK) = cuda ] && $(BIN)/python -c 'import sys, torch; sys.exit(bool(torch.version.cuda))' 2>/dev/null; then \
	  $(PIP) uninstall --quiet --yes torch; \
	fi; \
	$(PIP) install --quiet -r $(LOCKFILE); \
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .; \
	if [ $(LOCK) = cuda ] && ! $(BIN)/python -c 'import sys, torch; sys.exit(not torch.version.cuda)'; then \
	  echo 'Error: the index pip is configured with gave a build of torch without CUDA.' >&2; \
	  exit 1; \
	fi; \
	rm -f .venv/.unfinished; \
	touch $@; \
	echo 'Ready: .venv holds $(LOCKFILE)'
