# Two commands on a fresh machine with Python 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Threads of gradient boosting that spin while they wait slow each other down.
export OMP_WAIT_POLICY := passive

.PHONY: demo test setup lint quality

demo: setup  ## set up, then run the whole line on a data set with a planted truth
	$(BIN)/modalrank demo

test: setup lint  ## set up, then every check
	$(BIN)/pytest --numprocesses auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

quality: setup  ## the benchmark on the real data sets
	$(BIN)/python benchmarks/peers.py --protocol strict

setup: $(READY)

# uv installs in seconds what takes pip minutes; where the machine has none it comes into the environment.
# --no-deps: the pins are complete, but for NCCL, which only several GPUs need.
$(READY): requirements-dev.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	UV=$$(command -v uv) || { $(BIN)/python -m pip install --quiet uv && UV=$(BIN)/uv; }; \
	  $$UV pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements-dev.txt && \
	  $$UV pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@
