# What people and CI call. Every target makes its own environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test fuzz lint format docs bench clean

demo: .venv/.train            ## train a small network on generated pictures and show it working (about two minutes)
	$(BIN)/mobilenetv2 demo

test: .venv/.dev              ## every test; those that need the real weights and data are skipped, saying so
	$(BIN)/pytest

CASES ?= 20000
SEED ?= 0
fuzz: .venv/.dev              ## bad input of every kind, a quarter of an hour; CLASS=coco, and CASE=7 runs that one again
	PYTHONPATH=tests:tests/importers $(BIN)/python -m fuzz --cases $(CASES) --seed $(SEED) \
		$(if $(CLASS),--class $(CLASS)) $(if $(CASE),--case $(CASE))

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.dev              ## what is generated of the pages: docs/cli.md, the pictures of docs/paper.md
	$(BIN)/python -m typer mobilenetv2.cli utils docs --name mobilenetv2 --output docs/cli.md
	$(BIN)/mobilenetv2 paper all --out build/paper
	cp build/paper/figure[1-6].png build/paper/orthant.png build/paper/figures.json docs/paper

bench: .venv/.dev             ## timings, written to bench/results (an hour; installs the other runtimes beside ours)
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/blocks.py
	$(BIN)/python bench/section5.py
	$(BIN)/python bench/peers.py
	$(BIN)/python bench/training.py

clean:
	rm -rf .venv demo build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.train: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[train]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/.train
