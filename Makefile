# make demo: from a bare machine with Python 3.10 or newer to a trained LSTM and BN-LSTM and a report
# make test: the tests;  make lint: style, types, layering
# make records RUNS='runs/a runs/b': keep what is small of runs, and make the report of all records

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := constraints.txt pyproject.toml $(wildcard setup.py src/bnrnn/csrc/*)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
comma := ,

.PHONY: demo test lint smoke records clean

demo: $(VENV)/.ready-demo
	for experiment in digits digits-permuted; do \
	  for norm in none recurrent; do \
	    $(BIN)/bnrnn run $$experiment --norm $$norm --threads 1 --resume || exit; \
	  done; \
	done
	$(BIN)/bnrnn report runs/digits-lstm-none-seed1 runs/digits-lstm-recurrent-seed1 \
	  runs/digits-permuted-lstm-none-seed1 runs/digits-permuted-lstm-recurrent-seed1

# the tests marked real_data need the data files: BNRNN_DATA=folder make test
test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest $(if $(BNRNN_DATA),,-m 'not real_data')

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

smoke: $(VENV)/.ready-demo
	for norm in none recurrent; do \
	  $(BIN)/bnrnn run digits --norm $$norm --max-updates 48 --threads 1 --run-dir runs/smoke-$$norm --resume --quiet || exit; \
	done
	$(BIN)/bnrnn report runs/smoke-none runs/smoke-recurrent --out runs/smoke-report

records: $(VENV)/.ready-demo
	for run in $(RUNS); do \
	  mkdir -p records/$$(basename $$run) || exit; \
	  cp $$run/config.json $$run/environment.json $$run/metrics.jsonl records/$$(basename $$run) || exit; \
	  for file in result.json lengths.json; do \
	    if [ -f $$run/$$file ]; then cp $$run/$$file records/$$(basename $$run) || exit; fi; \
	  done; \
	done
	$(BIN)/bnrnn report --out records/report $(sort $(dir $(wildcard records/*/config.json)) $(RUNS:runs/%=records/%/))

# torch first, at the tested version: a looser requirement would take the newest build with its GPU libraries
define set-up
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch==2.13.0 setuptools wheel
	$(INSTALL) --no-build-isolation --editable '.[$(1)]'
	touch $(VENV)/.ready-demo
endef

$(VENV)/.ready-demo: $(SOURCES)
	$(call set-up,experiments)

$(VENV)/.ready-dev: $(SOURCES)
	$(call set-up,experiments$(comma)tensorboard$(comma)dev)
	touch $@

clean:
	rm -rf $(VENV) build runs/smoke-none runs/smoke-recurrent runs/smoke-report
