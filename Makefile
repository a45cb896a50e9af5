# What people and CI call. Every target makes its own environment in .venv first. Where PYTHON has PyTorch and torchvision
# already, .venv uses those instead of installing them again: `make demo PYTHON=~/my/venv/bin/python`.
PYTHON ?= python3
BIN := .venv/bin
SECONDS ?= 90

.PHONY: demo test test-all fuzz lint format docs bench clean

demo: .venv/.train            ## train a small network on generated pictures and show it working (about two minutes)
	$(BIN)/mobilenetv2 demo --seconds $(SECONDS)

test: .venv/.dev              ## the fast tests of every part
	$(BIN)/pytest -m "not slow" --durations=10

test-all: .venv/.dev          ## every test; those that need the real weights and data are skipped, saying so
	$(BIN)/pytest --durations=20

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

# The folder with PYTHON's own PyTorch, if there is one that is new enough; empty otherwise.
define FIND_TORCH
from importlib.metadata import version
from importlib.util import find_spec
try:
    new = [tuple(map(int, version(name).split(".")[:2])) for name in ("torch", "torchvision")] >= [(2, 6), (0, 21)]
    print(find_spec("torch").submodule_search_locations[0].rsplit("torch", 1)[0] if new else "")
except Exception:
    print("")
endef
export FIND_TORCH

.venv/bin/python:
	$(PYTHON) -m venv .venv
	@torch=$$(cd / && $(PYTHON) -c "$$FIND_TORCH") && if [ -n "$$torch" ]; then \
	    echo "$$torch" > $$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pytorch-of-its-own.pth; \
	    echo "PyTorch is taken from $$torch"; \
	fi

define BEFORE_INSTALLING
@if $(BIN)/python -c 'import importlib.util as i, sys; sys.exit(i.find_spec("torch") is None)'; then :; else \
    echo "Installing PyTorch and what training needs into .venv. On Linux PyTorch comes with CUDA: 3,200 MB to"; \
    echo "download, 6,000 MB of disk, 2 to 5 minutes. Its CPU-only build is far smaller: stop this (Ctrl-C), install torch and torchvision with"; \
    echo ".venv/bin/pip as https://pytorch.org/get-started/locally/ says for CPU, and call make again."; \
fi
endef

.venv/.train: pyproject.toml | .venv/bin/python
	$(BEFORE_INSTALLING)
	$(BIN)/python -m pip install --editable '.[train]'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BEFORE_INSTALLING)
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@ .venv/.train
