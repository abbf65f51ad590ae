# Two commands set up everything on a fresh machine: `make demo` and `make test`.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
COMPARE := $(BIN)/socket-owner compare --cache .cache/images

# Nothing phones home; what tools cache stays in the checkout; one thread a process suits two cores.
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export RAY_USAGE_STATS_ENABLED := 0
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export OMP_NUM_THREADS := 1
# Bytecode is kept: without it every process compiles PyTorch's Python again, several seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo measurements bench test fuzz soak lint types protos protos-check check nyuv2 clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

demo: .venv/installed ## Set up, then adapt RGB to depth at four simulated sites, over Flower (ARGS="--seeds 0,1,2")
	$(COMPARE) --config configs/demo.yaml --out runs/demo --methods $(METHODS) $(ARGS)
# Without tgkt, for which two cores need two minutes more: METHODS=unadapted,adabn,shot,socket,tgkt,oracle
METHODS ?= unadapted,adabn,shot,socket,oracle

nyuv2: .venv/installed ## The same on real RGB-depth pairs (DATA=folder of them)
	$(BIN)/socket-owner compare --config configs/nyuv2.yaml --out runs/nyuv2 --cache .cache/images --data $(DATA) \
		--confirm-batchnorm-statistics $(ARGS)
DATA ?= ../shared/data/nyuv2_scenes

measurements: .venv/installed ## All runs behind docs/measurements.md, three seeds (hours, estimated); finished rows are kept
	$(COMPARE) --config configs/demo.yaml --out runs/demo --seeds 0,1,2
	$(COMPARE) --config configs/nir.yaml --out runs/nir --seeds 0,1,2
	$(COMPARE) --config configs/nyuv2.yaml --out runs/nyuv2 --data $(DATA) --confirm-batchnorm-statistics --seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/drift --methods none --variants configs/drift --modes federated \
		--seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/ablations --methods socket,tgkt \
		--variants configs/ablations,configs/other-domain --modes centralised --seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/exchange --methods tgkt \
		--variants configs/ablations/tgkt-local.yaml --modes federated --seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/privacy --methods shot --variants configs/privacy \
		--modes centralised --seeds 0,1,2
	$(COMPARE) --config configs/demo-4000-pairs.yaml --out runs/privacy-4000 --methods shot \
		--variants configs/privacy-4000 --modes centralised --seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/privacy-sites --methods shot --variants configs/privacy-sites \
		--modes federated --seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/wire --methods none --variants configs/wire --modes federated \
		--seeds 0,1,2
	$(COMPARE) --config configs/demo.yaml --out runs/precision --methods none --variants configs/precision \
		--modes centralised,federated --seeds 0,1,2
	$(COMPARE) --config configs/two-sources.yaml --out runs/two-sources --methods unadapted,adabn,shot,socket \
		--seeds 0,1,2

bench: .venv/installed ## Speed, memory, bytes and scale as ratios (half an hour alone on two cores; ARGS="step --quick")
	$(BIN)/python -m benchmarks --json runs/performance.json $(ARGS)

test: .venv/installed ## Set up, then run all tests (ARGS="-m 'not flwr'" leaves out the real Flower run)
	$(BIN)/python -m pytest $(ARGS)

fuzz: .venv/installed ## Damaged input for every decoder of network and disk, 100,000 in all (ARGS="--seed 1")
	$(BIN)/python -m tests.fuzz $(ARGS)

soak: .venv/installed ## A deployed federation with a fault in each round (an hour or more; ARGS="--sites 3 --rounds 5")
	$(BIN)/python -m tests.soak $(ARGS)

lint: .venv/installed ## Lint and check the format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed ## Check types strictly
	$(BIN)/mypy

protos: .venv/installed ## Generate code from protos/*.proto
	$(BIN)/python scripts/gen_protos.py

protos-check: .venv/installed ## Fail if generated code is not current
	$(BIN)/python scripts/gen_protos.py --check

check: lint types protos-check test ## All that continuous integration checks

clean: ## Remove caches; keep the environment, and runs with their keys
	rm -rf .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
