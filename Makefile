# The two commands of the quick start are `make demo` and `make test`; both install what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint docs system-packages clean help

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

system-packages:
	@sh packaging/install-system-packages

$(STAMP): pyproject.toml packaging/constraints.txt | system-packages
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --constraint packaging/constraints.txt --editable '.[publish,dev]'
	@touch $@

demo: $(STAMP) ## The whole life of a node, with real parts
	$(BIN)/python -m tests.demo

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(STAMP) lint ## Everything that continuous integration checks
	$(BIN)/pytest -n 2 --dist loadfile

docs: $(STAMP) ## Write the generated tables of the documents anew
	$(BIN)/python -m tests.documents

clean: ## Remove the environment and all that was built
	rm -rf $(VENV) build dist
