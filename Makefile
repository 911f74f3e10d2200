# Two commands give the whole thing:
#   make lab     set up, build, bring up three virtual Pis, run all notebooks, write the report
#   make test    set up, run every test
# LAB=path/to/lab.toml names another lab than the default one.

SHELL    := /bin/bash
PYTHON   ?= python3
VENV     := .venv
READY    := $(VENV)/.ready
GISLAB   := $(VENV)/bin/gislab
PLATFORM ?=
ARGS     ?=
ifdef LAB
export GISLAB_LAB := $(LAB)
endif

.PHONY: help lab test test-pure up status down doctor images notebooks setup clean \
        torture bench bench-database bench-failover bench-loading bench-maps

help:
	@sed -n '2,4p' Makefile | cut -c3-
	@echo "  make doctor | up | status | down | notebooks | torture | images [PLATFORM=linux/arm64]"

setup: $(READY)

# A virtual environment needs python3-venv, which Debian packs apart.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gislab needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { test $$(id -u) = 0 && command -v apt-get \
	  && apt-get update -qq && apt-get install -y -qq python3-venv; } || \
	  { echo "type: sudo apt-get install python3-venv"; exit 1; }
	@for p in ssh:openssh-client openssl:openssl ip:iproute2; do \
	  command -v $${p%%:*} >/dev/null || { test $$(id -u) = 0 && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq $${p##*:}; } || \
	  { echo "type: sudo apt-get install $${p##*:}"; exit 1; }; done
	@echo "setting up $(VENV) (a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

lab: up notebooks

up: setup
	@$(GISLAB) up

notebooks: setup
	@$(GISLAB) notebooks $(ARGS)

status doctor down: setup
	@$(GISLAB) $@

# random faults for SECONDS while writing, the same for the same SEED; exit code 1 if one is lost
SECONDS  := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),1800)
SEED     ?= 1
torture: setup
	@$(GISLAB) torture --seconds $(SECONDS) --seed $(SEED) $(ARGS)

images: setup
	@$(GISLAB) images --all $(if $(PLATFORM),--platform $(PLATFORM)) $(ARGS)

# Two workers share what needs no engine; the rest has one lab, and the processors to itself. ARGS
# may choose tests of one kind only: 5 is pytest's word for none.
PURE     := $(VENV)/bin/python -m pytest -n 2 -m "not live and not arm"
LIVE     := $(VENV)/bin/python -m pytest -m "live or arm"
test: setup
	@$(PURE) $(ARGS); pure=$$?; test $$pure = 0 -o $$pure = 5 || exit $$pure; \
	  $(LIVE) $(ARGS); live=$$?; test $$live = 5 && exit $$pure || exit $$live

test-pure: setup
	@$(PURE) $(ARGS)

# Goes on where it stopped; delete build/bench-database to begin anew.
bench-database: up
	@PYTHONPATH=tests $(VENV)/bin/python -m bench.bench_database $(ARGS)

# How long clients wait, beside what others wait; goes on where it stopped, too. Writes
# docs/bench-failover.md.
bench-failover: up
	@PYTHONPATH=tests $(VENV)/bin/python -m bench.bench_failover $(ARGS)

# What more map servers give, and what all of it takes; goes on where it stopped, too. Writes
# docs/bench-maps-<map server>.md.
bench-maps: up
	@PYTHONPATH=tests $(VENV)/bin/python -m bench.bench_maps $(ARGS)

# How quickly a frame comes into PostGIS, next to other ways; writes docs/bench-loading.md.
bench-loading: setup
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@PYTHONPATH=tests $(VENV)/bin/python -m bench.bench_loading $(ARGS)

# All of them, one after another; ARGS are not theirs alike.
bench:
	@for one in failover database loading maps; do $(MAKE) --no-print-directory bench-$$one ARGS= \
	  || exit 1; done

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
