# What a newcomer needs: `make demo` and `make test`. Everything is installed in virtual environments of our own.
#
#   make demo      a leader and three followers, each an OS process of its own (`make demo ARGS=--serve` keeps them)
#   make test      lint, types and the test suite
#   make test-all  the test suite on each CPython of VERSIONS that is found
#   make lint      ruff and mypy
#   make interop   live tests with peers that we did not write (see interop/install)
#   make bench     measure beside other libraries, each in an environment of its own, see benchmarks/README.md
#   make bench-quick  a part of it, in two minutes
#   make clean     remove what the above have made
#
# PYTHON=python3.12 chooses another interpreter than python3.

PYTHON ?= python3
VENV ?= .venv
VERSIONS ?= 3.11 3.12 3.13
PYENV_ROOT ?= $(HOME)/.pyenv
ARGS ?=

# The environment is made anew when pyproject.toml has changed, and only then.
READY = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test suite test-all lint interop bench bench-quick clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed -n '1,/^PYTHON=/p'

demo: $(READY)
	@$(VENV)/bin/compactor demo $(ARGS)

test: lint suite

suite: $(READY)
	$(VENV)/bin/python -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

interop: $(READY)
	interop/install
	$(VENV)/bin/python -m pytest tests/interop

# ARGS='one_way links' chooses cases; -m benchmarks --help tells the other options.
bench: $(READY)
	$(VENV)/bin/python -m benchmarks $(ARGS)

bench-quick: $(READY)
	$(VENV)/bin/python -m benchmarks --scale quick --seconds 90 $(ARGS)

# A shim of pyenv is on the path for each version that it has, but works for the chosen ones only; the versions
# themselves are in a folder beside that of the shims.
test-all:
	@for version in $(VERSIONS); do \
	  found=; \
	  shims=$$(dirname "$$(command -v python$$version)"); \
	  for candidate in python$$version $(PYENV_ROOT)/versions/$$version.*/bin/python$$version \
	      $$shims/../versions/$$version.*/bin/python$$version; do \
	    if "$$candidate" -c '' 2>/dev/null; then found=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "== CPython $$version: not found, skipped"; continue; fi; \
	  echo "== CPython $$version: $$found"; \
	  $(MAKE) --no-print-directory suite VENV=.venv-$$version PYTHON=$$found || exit 1; \
	done

# Debian's python3 without python3-venv cannot put pip into an environment; its pip can then install from outside.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "compactor needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
	       "name a newer one, as in 'make PYTHON=python3.12 test'" >&2; exit 1; }
	rm -rf $(VENV)
	@if $(PYTHON) -m venv $(VENV) >/dev/null; then pip="$(VENV)/bin/python -m pip"; \
	else $(PYTHON) -m venv --clear --without-pip $(VENV) && pip="$(PYTHON) -m pip --python $(VENV)/bin/python"; fi; \
	set -x; $$pip --disable-pip-version-check install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv .venv-3.* .interop .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
