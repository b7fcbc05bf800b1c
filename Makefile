# `make` alone lists what there is. Every target sets itself up; none needs another to have run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo contexts test lint types unit servers docs crash bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(READY)  ## replay a marketplace's orders, then open the shop with its console; STORE=sqlite:///shop.db SERVE=no
	$(BIN)/python -m examples.shop demo $(if $(STORE),--store $(STORE)) $(if $(filter no,$(SERVE)),--no-serve) \
		$(if $(PORT),--port $(PORT)) $(if $(SECONDS),--seconds $(SECONDS))

contexts: $(READY)  ## run shop, billing and notifications over a broker; kill one, and see it catch up
	$(BIN)/python -m examples.contexts

test: lint servers  ## run every check: format, lint, floors, types, tests, docs
	@$(MAKE) --no-print-directory -j 3 types docs unit  # which wait for disks and servers, so there is room beside them

lint: $(READY)  ## format, style and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(READY)  ## mypy and pyright, strict
	$(BIN)/mypy
	$(BIN)/basedpyright

unit: $(READY) servers  ## the tests, but for those of buses
	$(BIN)/python -m pytest -n 4 tests examples --ignore tests/bus

docs: $(READY) servers  ## the code of the README and the docs, page by page, and the buses, each with one broker
	$(BIN)/python -m pytest docs README.md tests/bus

servers:  ## install RabbitMQ and Chromium for the tests, if they are missing; the other servers come as wheels
	@./tests/install.sh /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
	@./tests/install.sh /usr/bin/chromium chromium fonts-dejavu-core

crash: $(READY) servers  ## 200 kills of each kind and 20,000 power cuts; REFOLD_SEED=… repeats a run
	REFOLD_KILLS=200 REFOLD_IMAGES=20000 $(BIN)/python -m pytest -s tests/crash

bench: $(READY)  ## measure against raw loops and peers, in one run; CASES="one-append load"
	@$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m bench $(CASES)

clean:  ## remove what the targets made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo.db demo.db-* demo.analytics
