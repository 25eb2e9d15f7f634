# Everything a developer or a new user runs; CI runs `make check` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2

.PHONY: demo test test-gpu check check-defaults docs bench format clean

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	"skfusion needs Python 3.11 or newer, but $(PYTHON) is %d.%d. Name a newer one: make PYTHON=python3.11 ..." % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# One thread a worker: the tests' networks are small, and worker processes would fight over the cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -q -m gpu

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/house_rules.py

# scikit-learn's check_estimator on every public estimator with its bare defaults; minutes, so not part of `check`.
check-defaults: $(STAMP)
	OMP_NUM_THREADS=1 SKFUSION_CHECK_DEFAULTS=1 $(BIN)/python -m pytest -q -n $(JOBS) tests/contracts/test_sklearn.py

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: $(STAMP)
	$(BIN)/python benchmarks/training_loop.py
	$(BIN)/python benchmarks/late_fusion.py --tables speed
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/fusion_steps.py
	$(BIN)/python benchmarks/conformal.py
	$(BIN)/python benchmarks/pretraining.py
	$(BIN)/python benchmarks/singlecell.py

format: $(STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build demo .ruff_cache .mypy_cache
