# Everything runs in a virtual environment of its own; what is needed is make and Python 3.11 or newer.
#   make test PYTHON=python3.13        another interpreter
#   make test ARGS="-k registry -x"    arguments for pytest
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# How many processes, tests/conftest.py says; a class stays in one, with its servers.
TEST := -m pytest --numprocesses auto --dist loadscope
QUICK := $(addprefix tests/,record encoding config store/test_store.py store/test_registry.py store/test_routing.py \
    store/test_cache.py store/test_batches.py test_errors.py packaging/test_imports.py storages/test_memory_storage.py \
    storages/sql/sqlite/test_sqlite_storage.py::TestSqliteInMemory)

BIN := $(abspath $(VENV)/bin)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The package as an installer lays it out, with storages/ at its installed place, for tools that read source files.
TREE := .build/tree
TYPED := flowstore tests $(wildcard benchmarks)
VERSION_OF := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
WANTED := $(shell $(PYTHON) $(VERSION_OF) 2>/dev/null)
FOUND := $(shell test -x $(BIN)/python && $(BIN)/python $(VERSION_OF) 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-quick test-all check lint types imports docs celery-suite-attached bench clean tree FORCE

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-28s %s\n", $$1, $$2}'

demo: $(VENV)/ready ## Run real flows with a real Celery worker; no server needed
	@$(BIN)/flowstore demo

test-quick: $(VENV)/ready-test ## Run the tests of the core, without any server: under a minute
	@$(BIN)/python $(TEST) -m "not release and not server" $(QUICK) $(ARGS)

test: $(VENV)/ready-test ## Run the tests, each adapter on one server
	@$(BIN)/python $(TEST) -m "not release" $(ARGS)

test-all: $(VENV)/ready-test ## Run the tests, and those that wait for a release: everything on every server
	@$(BIN)/python $(TEST) $(ARGS)

check: lint types imports docs test ## Run all that CI runs: lint, types, dependency direction, docs, tests

lint: $(VENV)/ready-dev ## Check style and formatting
	@echo "ruff: style and formatting"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --check .; exit 1; }

types: $(VENV)/ready-dev tree ## Check types
	@echo "mypy: types"
	@root=$$PWD; cd $(TREE) && $(BIN)/mypy --config-file $$root/pyproject.toml --cache-dir $$root/.mypy_cache \
	    --no-error-summary $(TYPED) >../mypy.log 2>&1; status=$$?; \
	    sed 's,^flowstore/storages/,storages/,' ../mypy.log; exit $$status

imports: $(VENV)/ready-dev tree ## Check the direction of imports
	@echo "import-linter: dependency direction"
	@root=$$PWD; cd $(TREE) && $(BIN)/lint-imports --config $$root/pyproject.toml --no-cache >../imports.log 2>&1 \
	    || { cat ../imports.log; exit 1; }

docs: $(VENV)/ready-dev ## Build the documentation into docs/_build/html
	@echo "sphinx: documentation"
	@$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

celery-suite-attached: $(VENV)/ready-test ## Run Celery's own tests with flowstore attached and without; print what differs
	@$(BIN)/python -m tests.celery_suite $(ARGS)

bench: $(VENV)/ready-test ## Measure speed and print it
	@$(BIN)/python -m benchmarks.adapters $(ARGS)
	@$(BIN)/python -m benchmarks.import_time
	@$(BIN)/python -m benchmarks.worker_throughput

clean: ## Remove everything that the other targets made
	@rm -rf $(VENV) .build build dist docs/_build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find flowstore storages tests -name __pycache__ -type d -prune -exec rm -rf {} +

tree:
	@rm -rf $(TREE) && mkdir -p $(TREE)
	@cp -Rp $(TYPED) $(TREE)/ && cp -Rp storages $(TREE)/flowstore/storages

# A changed pyproject.toml or another Python starts afresh, so that nothing is left of what is no longer asked for.
$(VENV)/ready: pyproject.toml $(if $(filter $(WANTED),$(FOUND)),,FORCE)
	@test -n "$(WANTED)" || { echo "make: $(PYTHON) not found; name a Python with 'make PYTHON=/path/to/python3 ...'" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: flowstore needs Python 3.11 or newer, and $(PYTHON) is $(WANTED); name another with 'make PYTHON=...'" >&2; exit 1; }
	@echo "installing flowstore into $(VENV) (Python $(WANTED))" >&2
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	    echo "make: $(PYTHON) can't make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PIP) install --editable .
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	@$(PIP) install --editable '.[test]'
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready-test
	@$(PIP) install --editable '.[dev]'
	@touch $@
