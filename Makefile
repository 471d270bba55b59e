# Everything starts from an environment in .venv, made when it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint clean

demo: .venv/demo
	$(BIN)/eagleray infer examples/data/ngc4051_xmm.txt --out ngc4051_xmm_eagleray --overwrite

test: .venv/dev lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/dev
	$(BIN)/python -m pytest -q -m slow

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

.venv/dev: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ .venv/demo

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
