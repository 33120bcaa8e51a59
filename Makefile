# Every target sets up .venv by itself; python3, make and a shell are enough.
#   make demo    a cluster, a service and a template, working together
#   make test    unit tests, then the conformance cases
#   make lint    ruff, its formatter, pyright
#   make bench   the measurements
#   make soak    simulated clusters, SOAK_SEEDS seeds or SOAK_SECONDS long

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# The tests start hundreds of programs: none of them has to compile what it imports.
unexport PYTHONDONTWRITEBYTECODE
# Most of the slow tests wait for timers: more workers than cores pay off.
WORKERS ?= 3

.DEFAULT_GOAL := test
.PHONY: demo test unit conformance lint format bench bench-cluster bench-gossip soak clean

$(VENV)/.runtime: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $@

demo: $(VENV)/.runtime
	$(BIN)/python demo/run.py $(ARGS)

test: unit conformance

# Tests of real processes share the cores with two other workers. What fails is
# tried once more with the machine to itself; .ci/run shows what that was.
unit: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS) || \
	{ test $$? = 1 && echo "what failed, once more by itself:" && \
	  $(BIN)/python -m pytest --last-failed --last-failed-no-failures none \
	    --maxfail 1 $(ARGS); }

conformance: $(VENV)/.dev
	$(BIN)/python tests/run_conformance.py
	$(BIN)/python tests/run_conformance.py --jobs 4 --agent client
	$(BIN)/python tests/run_conformance.py --jobs 4 --agent follower

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev
	$(BIN)/python tests/bench/run.py $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python tests/simulation/soak.py $(ARGS)

bench-cluster: $(VENV)/.dev
	$(BIN)/python tests/bench/cluster.py $(ARGS)

bench-gossip: $(VENV)/.dev
	$(BIN)/python tests/bench/gossip.py $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist
