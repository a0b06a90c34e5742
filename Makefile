# Everything runs in .venv, which is made once and again whenever pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python -m

.PHONY: demo test bench lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.has-demo
	@$(RUN) tectum demo $${MEDIA:+--media "$$MEDIA"}

test: $(VENV)/.has-demo,train,test
	@$(RUN) pytest

bench: $(VENV)/.has-demo,train,test
	@for name in index metrics contrastive encoding training samplers unet diffusion; do $(VENV)/bin/python benchmarks/$$name.py || exit 1; done

lint: $(VENV)/.has-demo,train,test
	@$(RUN) ruff check . && $(RUN) mypy

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# $* is the list of extras.
$(VENV)/.has-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "tectum needs Python 3.11 or newer with venv and pip: install them (Debian: apt install python3-venv) or name another with PYTHON=/path/to/python3." >&2; exit 1; }
	@echo "Setting up $(VENV) with tectum[$*] (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch '$@'
