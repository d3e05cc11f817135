# Two commands on a fresh machine: `make app` and `make test`.
PYTHON ?= python3
VENV := .venv/bin
PORT ?= 8501

.PHONY: app test lint types bench setup setup-dev

app: setup
	PORT=$(PORT) $(VENV)/vp app

test: setup-dev
	$(VENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore-glob='tests/app/test_browser*'
	$(VENV)/python -m pytest tests/app/test_browser*.py

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

.venv/.installed-dev: .venv/.installed requirements-dev.txt requirements-onnx.txt
	$(VENV)/pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@
