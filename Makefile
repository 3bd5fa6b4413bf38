# Needs python3 >= 3.11, make and bash. Everything else goes into .venv, pinned by constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
TWO := --numprocesses 2 --dist loadfile --no-loadscope-reorder
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints.txt
DATA ?=
DEVICE ?= cuda

# Modules are compiled on first use: a third of the 13,000 that an install would compile.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-long smoke lint audit lock bench bench-plateau bench-loader bench-step bench-serving gpu clean

help:  ## these lines
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo:  ## from photographs to an answer over HTTP; DATA=folder takes your class folders
	@start=$$(date +%s) && $(MAKE) --no-print-directory .venv/run && \
	  INSTALL_S=$$(($$(date +%s) - start)) PATH="$(CURDIR)/$(BIN):$$PATH" deploy/demo.sh "$(DATA)"

test: .venv/dev  ## the default suite, about ten minutes on two cores; fetches a browser if need be
	@$(BIN)/python -m tests.browser
	$(BIN)/python -m pytest -m "not slow" $(TWO)

test-slow: .venv/dev  ## what takes longer
	$(BIN)/python -m pytest -m "slow and not alone and not long" $(TWO)
	$(BIN)/python -m pytest -m "alone and not long"

test-long: .venv/dev  ## what CI has no time for
	$(BIN)/python -m pytest -m long

smoke:  ## the containers for real: build, up, train, answer, accidents, down; needs docker
	deploy/smoke.sh

lint: .venv/dev  ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: .venv/dev  ## vulnerabilities known of the pinned versions, where a database can be reached
	@PATH="$(CURDIR)/$(BIN):$$PATH" deploy/audit

lock: .venv/run  ## what the container images install, by hash, after a change of versions; asks PyPI
	@$(PIP) uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" deploy/lock

bench: .venv/run  ## three networks on Imagenette as in BENCHMARKS.md; DATA=folder holds train/ and val/
	@test -d "$(DATA)/train" || { echo "make bench DATA=folder: with train/ and val/"; exit 2; }
	rm -rf bench
	$(BIN)/python -m pipeline pack "$(DATA)" bench/dataset --size 160
	for seed in 0 1 2; do \
	  time -p $(BIN)/python -m trainer train --recipe small --data bench/dataset --name seed$$seed \
	    --seed $$seed --workers 2 --runs bench/runs --models bench/models || exit; done
	$(BIN)/python -m trainer evaluate bench/models/seed[012] --data bench/dataset
	$(BIN)/python -m trainer report seed0 bench/imagenette --runs bench/runs

bench-plateau: .venv/run  ## recipe paper at half width on the same, its learning rate dropped by the error
	@test -d "$(DATA)/train" || { echo "make bench-plateau DATA=folder: with train/ and val/"; exit 2; }
	test -f bench/dataset128/manifest.json || \
	  $(BIN)/python -m pipeline pack "$(DATA)" bench/dataset128 --size 128
	$(BIN)/python -m trainer train --recipe paper --schedule plateau --data bench/dataset128 \
	  --name plateau --workers 2 --epochs 24 --set size=128 --set network.width=0.5 \
	  --set network.crop=112 --set schedule.patience=2 --runs bench/runs --models bench/models
	$(BIN)/python -m trainer report plateau bench/plateau --runs bench/runs

bench-loader: .venv/dev  ## loader and packer beside their peers, on the same DATA
	@test -d "$(DATA)/train" || { echo "make bench-loader DATA=folder: with train/ and val/"; exit 2; }
	test -f bench/dataset256/manifest.json || \
	  $(BIN)/python -m pipeline pack "$(DATA)" bench/dataset256 --size 256
	$(BIN)/python -m tests.benchmarks.loader bench/dataset256 --source "$(DATA)" --picture docs/loader

bench-step: .venv/dev  ## forward pass and training step beside their peers, Ray Train beside torchrun
	$(BIN)/python -m tests.benchmarks.step

bench-serving: .venv/dev  ## the server beside its peers, and ten minutes of load with reloads
	$(BIN)/python -m tests.benchmarks.serving
	$(BIN)/python -m tests.benchmarks.serving.soak

gpu: .venv/dev  ## what runs on a GPU, held to a CPU's results, and its speed; DEVICE=cpu rehearses it
	$(BIN)/python -m tests.gpu all --device $(DEVICE) $(if $(DATA),--photographs "$(DATA)")

clean:  ## remove the virtual environment and what demo made
	rm -rf .venv demo bench gpu

# The plain install is right on every machine: PyPI's torch has CUDA, and uses it where it can.
.venv/run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
	  "Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + \
	  "; name another: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@echo "installing into .venv (minutes the first time)"
	@$(PIP) setuptools
	@$(PIP) --no-build-isolation --editable '.[train,serve]'
	@touch $@

.venv/dev: .venv/run
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
