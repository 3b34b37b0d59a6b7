PYTHON ?= python
MEMORY ?= introspective

.DEFAULT_GOAL := help
.PHONY: help install test oldest format lint types docs debug-run benchmark clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: ## install the package in place, with the tested versions and the developers' tools
	$(PYTHON) -m pip install -c constraints.txt -e '.[dev]'

test: ## run the tests that are not slow
	$(PYTHON) -m pytest

# The oldest matplotlib calls what pyparsing 3.3 deprecates, and a warning is an error in the tests.
oldest: ## run the tests with the oldest releases that setup.cfg allows, on Python 3.10 or 3.11
	$(PYTHON) -m venv build/oldest
	build/oldest/bin/python -m pip install uv
	build/oldest/bin/uv pip install --python build/oldest --resolution lowest-direct \
		-e '.[test,tables]' 'pyparsing>=3.2,<3.3'
	build/oldest/bin/python -m pytest

format: ## format the code, and mend what ruff can mend
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint: ## check style and formatting
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# mypy follows neither package_dir nor the import hook of an editable install, so it would not find
# pyro_gtm.tasks, which lies in tasks/. It gets a tree of links laid out as the package is installed.
types: ## check types in pyro_gtm and pyro_gtm.tasks
	rm -rf build/types
	mkdir -p build/types/pyro_gtm
	ln -s "$(CURDIR)"/pyro_gtm/* build/types/pyro_gtm/
	ln -s "$(CURDIR)/tasks" build/types/pyro_gtm/tasks
	MYPYPATH=build/types $(PYTHON) -m mypy -p pyro_gtm

docs: ## build the documentation site in build/docs
	$(PYTHON) -m sphinx -W --keep-going -b html docs build/docs

debug-run: ## train the smallest preset from scratch; MEMORY=vrnn for another memory
	rm -rf "runs/debug-$(MEMORY)"
	$(PYTHON) examples/train.py --memory $(MEMORY) --preset debug --output "runs/debug-$(MEMORY)"

benchmark: ## run every script in benchmarks/
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(PYTHON) "$$script"; done

clean: ## remove build outputs and caches, but neither runs nor virtual environments
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find pyro_gtm tasks examples benchmarks tests -type d -name __pycache__ -prune -exec rm -rf {} +
