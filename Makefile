# Every target works from a fresh clone; the virtual environment is made when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One thread a process, as many processes as cores, four at most.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

.PHONY: demo test test-slow check docs clean

demo: $(VENV)/.installed        ## The main job on included data: studies, curve, page.
	$(BIN)/oodml demo --out demo

test: $(VENV)/.installed        ## The fast tests.
	$(PYTEST)

test-slow: $(VENV)/.installed   ## All tests, those that take minutes too.
	$(PYTEST) -m ''

check: $(VENV)/.installed       ## Style, types, tests.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[check]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing/user_code.py
	$(PYTEST)

docs: $(VENV)/.installed        ## The documentation, as pages in site/.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python scripts/docs/reference.py docs/reference
	$(BIN)/zensical build --strict --clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo site docs/reference
