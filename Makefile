# Everything is set up in .venv by the first command that needs it: Python 3.11 to 3.14 and a network are enough.
# torch comes from the ordinary package index (its usual Linux build runs on CPU and GPU): about 2 GB to fetch,
# 6 GB on disk. Tested versions are pinned in constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
DEMO_OUT ?= runs/demo

.PHONY: help demo test lint check format bench clean

help:  ## what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */make \1\t/' | expand -t 14

demo: $(VENV)/.demo  ## pre-train on handwritten digits and see what was learned (under 4 minutes on 2 cores)
	$(BIN)/convnextv2 demo --out $(DEMO_OUT)-$$(date +%Y%m%d-%H%M%S)

test: $(VENV)/.test  ## all tests, as in CI (about 22 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.test  ## format, lint and types, without changing a file
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/pyright

format: $(VENV)/.test  ## let the formatter and the linter mend what they can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: lint  ## lint, and the fast tests: before every commit
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

bench: $(VENV)/.bench  ## a pre-training step and an epoch of fine-tuning against the fastest peers
	$(BIN)/python benchmarks/pretrain_step.py
	$(BIN)/python benchmarks/finetune_epoch.py $(if $(DATA),--data "$(DATA)")

clean:  ## remove the environment and what tools left behind
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "convnextv2 needs Python 3.11 to 3.14: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV): fetching torch and what else is needed, about 2 GB ..."
	@$(PYTHON) -m venv --clear $(VENV) || { echo "no venv module: apt install python3-venv"; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.uv
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/.uv
	$(INSTALL) --editable ".[dicom,heic,hub,slides,tensorboard,timm]" --group test --group check
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.uv
	$(INSTALL) --editable . --group bench
	@touch $@
