# The two commands of the quick start are `make demo` and `make test`; both install what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint docs deb wheel bench powercut e2e e2e-powercut conformance system-packages clean help

help: ## Show the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

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

test: $(STAMP) lint deb ## Everything that continuous integration checks
	$(BIN)/pytest -n 2 --dist loadfile --e2e=no
	$(BIN)/pytest tests/e2e -m ci

# As root, for block devices; what takes long to make is kept in build/bench.
bench: $(STAMP) ## Compare with other tools; see packaging/doc/benchmark.md
	@sh packaging/install-bench-packages
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint packaging/constraints.txt --editable '.[bench]'
	$(BIN)/python -m tests.bench
	$(BIN)/python -m tests.bench --kind erofs --only delta-patch,delta-upgrade,computed --rounds 3
	$(BIN)/python -m tests.bench --report

powercut: $(STAMP) ## Cut each change of the boot reference at each write; see packaging/doc/crash-model.md
	$(BIN)/pytest tests/crash tests/qemu --every-cut --write-table

# What is built for the machines is kept in build/e2e, and so are their logs.
# Two machines at a time, since QEMU without KVM takes a core for each.
TWO_MACHINES := -n 2 --maxschedchunk 1 --e2e=all
e2e: $(STAMP) deb ## Boot the machine image in QEMU, and go through all scenarios with both loaders
	$(BIN)/pytest tests/e2e $(TWO_MACHINES) -m 'not powercut'

e2e-powercut: $(STAMP) deb ## Cut the power of whole machines 24 times, and the log of their writes at each write
	$(BIN)/pytest tests/e2e $(TWO_MACHINES) -m powercut

SUITE ?= build/tuf-conformance
conformance: $(STAMP) ## The public TUF conformance suite, from its checkout SUITE=
	@test -d '$(SUITE)/tuf_conformance' || { echo 'SUITE= must name a checkout of theupdateframework/tuf-conformance.' >&2; exit 1; }
	cd '$(SUITE)' && '$(CURDIR)/$(BIN)/pytest' -q -p no:cacheprovider --rootdir=. tuf_conformance --entrypoint='$(CURDIR)/tests/conformance/client'

deb: | system-packages ## The Debian packages, into dist/
	packaging/debian/build build/deb dist

wheel: $(STAMP) ## The Python package, into dist/
	rm -rf build/lib build/bdist.*
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

docs: $(STAMP) ## Write what is generated of documents, manual pages and completions
	$(BIN)/python -m tests.documents

clean: ## Remove the environment and all that was built
	rm -rf $(VENV) build dist
