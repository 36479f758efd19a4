# The one door to everything a developer or CI does. Each target sets up what it needs in .venv/ of this
# checkout, so several checkouts (git worktrees too) can stand side by side.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
# One interpreter for maturin and for plain cargo: else each would rebuild PyO3 after the other.
export PYO3_PYTHON := $(BIN)/python
# An activated environment, of another checkout perhaps, must not catch our installation.
export VIRTUAL_ENV := $(VENV)
unexport CONDA_PREFIX
unexport PYTHONPATH
unexport PYTHONHOME

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml -o -name build.rs)
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo instructions test test-fast compat compat-table compat-matrix test-rust fault-build faults soak lint format types arch api loom bench build clean

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

# --- setting up ------------------------------------------------------------------------------------

$(VENV)/.stamp-tools: requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "corral needs CPython 3.11 or newer; say which: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

$(VENV)/.stamp-build: $(VENV)/.stamp-tools $(RUST_SOURCES) pyproject.toml
	@command -v cargo >/dev/null || { echo 'corral needs Rust (cargo) to build its native module' >&2; exit 1; }
	$(BIN)/maturin develop --release --locked --quiet --extras progress
	@touch $@

# As an installer would: an editable package is not compiled, and where PYTHONDONTWRITEBYTECODE is set never would be.
build: $(VENV)/.stamp-build ## Build the native module and install corral, editable, in .venv
	@$(BIN)/python -m compileall -q src/corral

# --- seeing it work ----------------------------------------------------------------------------------

demo: build ## The parallel data processor: sequential, multiprocessing, corral
	$(BIN)/python examples/parallel_processor.py

bench: build ## corral beside the standard library, in one run
	$(BIN)/python -m benchmarks

instructions: build ## Instructions of a task's way under callgrind, beside what they may be
	$(BIN)/python -m benchmarks.instructions

# --- judging it --------------------------------------------------------------------------------------

test: test-rust build ## All tests: Rust and Python
	$(PYTEST)

test-fast: build ## The Python tests that take less than a quarter of a second each
	$(PYTEST) -m 'not slow' tests

compat: build ## The interpreter's own tests of multiprocessing and concurrent.futures, for each start method
	CORRAL_COMPAT="$${CORRAL_COMPAT-fork forkserver spawn}" $(PYTEST) tests/compat

compat-table: $(VENV)/.stamp-tools ## Write the compatibility page, after a change of what is expected
	$(BIN)/python -m tests.compat.table $(REPORTS)

compat-matrix: $(VENV)/.stamp-tools ## The same on each Python that corral supports, as far as it is installed
	$(BIN)/nox --session compat

test-rust:
	cargo test --locked --quiet -p corral-core

# corral as it is, but with a native module that can be struck at its named steps: a package of links, for PYTHONPATH.
FAULT := $(CURDIR)/target/fault

$(FAULT)/.stamp: $(VENV)/.stamp-build
	cargo build --release --locked --quiet --target-dir $(FAULT) --package corral-py --features fault
	@touch $@

fault-build: $(FAULT)/.stamp ## corral with faults at named steps, in target/fault/overlay
	@rm -rf $(FAULT)/overlay && mkdir -p $(FAULT)/overlay/corral
	@ln -s $(CURDIR)/src/corral/* $(FAULT)/overlay/corral/
	@rm -f $(FAULT)/overlay/corral/_native*.so
	@cp $(FAULT)/release/lib_native.so $(FAULT)/overlay/corral/_native.abi3.so

faults: fault-build ## Every crash: cause, phase, way of calling, start method; prints a table
	PYTHONPATH=$(FAULT)/overlay $(BIN)/python -m tests.faults.matrix

MINUTES ?= 1
soak: build ## Random faults for MINUTES=n, with an oracle; prints its SEED, which makes it the same again
	$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.stamp-tools ## ruff, rustfmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cargo fmt --all --check
	cargo clippy --locked --quiet --workspace --all-targets -- --deny warnings

format: $(VENV)/.stamp-tools ## Let the tools write what lint demands
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format --quiet .
	cargo fmt --all

types: build ## mypy --strict; the stub of the native module against the module itself
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest corral._native --mypy-config-file pyproject.toml \
	    --allowlist tests/typing/stubtest-allowlist.txt --ignore-unused-allowlist

arch: build ## Import layers, public API, size limits, links, cost of import
	$(BIN)/lint-imports
	$(PYTEST) tests/arch

api: build ## Write down the public API, after a change that is meant
	$(BIN)/python tests/arch/test_public_api.py

loom: ## Check ring and doorbell under every interleaving (within loom's bounds)
	RUSTFLAGS='--cfg loom' LOOM_MAX_PREEMPTIONS=$${LOOM_MAX_PREEMPTIONS:-2} \
	    cargo test --locked --quiet --release --target-dir target/loom -p corral-core --lib loom

clean: ## Remove what was built
	rm -rf target .venv dist
	find src -name '*.so' -delete
