# Two commands: `make demo` trains, measures and draws an HFVAE of dSprites; `make test` checks everything.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
RUN ?= runs/demo
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Compiled modules are kept: each command imports thousands of them, and compiling takes most of half a minute.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test lint types unit test-kernels campaign docs clean

# One thread: the networks are small, and where two share a core the second slows the first down.
demo: export OMP_NUM_THREADS = 1
demo: .venv/installed
	$(BIN)/pyro-hfvae fit --config experiments/demo.yaml --run $(RUN)
	@$(BIN)/pyro-hfvae traverse $(RUN) > /dev/null & pictures=$$!; \
	$(BIN)/pyro-hfvae evaluate $(RUN) --samples 5000 --term_samples 2000 --permutations 0 > $(RUN)/summary.txt && wait $$pictures
	@$(BIN)/pyro-hfvae report $(RUN)
	@cat $(RUN)/summary.txt

test: lint types unit docs

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy looks at the package as it is installed, with models, guides and experiments inside.
types: .venv/installed-dev
	@rm -rf build/types && mkdir -p build/types/pyro_hfvae
	@ln -s $(CURDIR)/pyro_hfvae/* $(CURDIR)/models $(CURDIR)/guides $(CURDIR)/experiments build/types/pyro_hfvae
	$(BIN)/mypy build/types/pyro_hfvae

unit: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# What is 0 on one processor rounds to 1e-16 on another. On x86, OpenBLAS (NumPy, SciPy) and ATen (torch) choose their
# kernels by the processor unless these variables name them. They choose separately, so that three runs suffice: what
# this processor takes; OpenBLAS with AVX2, as on most processors; neither with AVX, as on the oldest that torch runs on.
test-kernels: .venv/installed-dev
	env -u OPENBLAS_CORETYPE -u ATEN_CPU_CAPABILITY $(MAKE) unit
	env -u ATEN_CPU_CAPABILITY OPENBLAS_CORETYPE=Haswell $(MAKE) unit
	env OPENBLAS_CORETYPE=Nehalem ATEN_CPU_CAPABILITY=default $(MAKE) unit

# Kills and mutated inputs, most of an hour; `make unit` runs a short one.
campaign: .venv/installed-dev
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m campaign --output docs/campaign_table.md

docs: .venv/installed-dev
	$(BIN)/sphinx-build -W -q -b html docs build/docs

clean:
	rm -rf .venv build dist *.egg-info

# The file is named for the version, so that another PYTHON makes .venv anew.
.venv/python-$(VERSION):
	$(PYTHON) -m venv --clear .venv
	@touch $@

# torch first and by itself: what other packages ask of it is then met, and no GPU build is looked for.
.venv/installed: .venv/python-$(VERSION) setup.cfg pyproject.toml constraints.txt
	$(PIP) --no-compile torch
	$(PIP) --no-compile --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --editable ".[dev]"
	@touch $@
