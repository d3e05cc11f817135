# Two commands on a fresh machine: `make app` and `make test`.
PYTHON ?= python3
VENV := .venv/bin
PORT ?= 8501

.PHONY: app test test-slow lint types bench setup setup-dev

app: setup
	PORT=$(PORT) $(VENV)/vp app

# Each prints at its end how many tests there were and its slowest ten; together they are all of them. A file is run by one
# process, which makes its fixtures once; one browser at a time, which draws on both cores.
PYTEST := $(VENV)/python -m pytest --durations=10
TWO := -n 2 --dist loadfile --no-loadscope-reorder

test: setup-dev
	$(PYTEST) $(TWO) -m "not slow"

test-slow: setup-dev
	$(PYTEST) $(TWO) -m slow --ignore-glob='tests/app/web/test_browser*'
	$(PYTEST) -m slow tests/app/web/test_browser*.py

lint: setup-dev
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .

types: setup-dev
	$(VENV)/mypy

bench: setup-dev
	$(VENV)/python -m benchmarks

setup: .venv/.installed
setup-dev: .venv/.installed-dev

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (PYTHON=python3.12 make …)."; exit 1; }
	test -d .venv || $(PYTHON) -m venv .venv
	$(VENV)/pip install -q --disable-pip-version-check -r requirements.txt
	$(VENV)/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt requirements-gguf.txt requirements-onnx.txt
	$(VENV)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@
