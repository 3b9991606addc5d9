# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python

.PHONY: demo test check test-zoo test-zoo-models test-cli test-browser bench-extract bench-cli bench-heads bench-train bench-modular bench-omniglot bench-forgetting bench-import clean

demo: $(VENV)/.installed
	$(VENV)/bin/xfer2 demo

# One process a core, one thread each: networks this small gain nothing from more threads.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PY) -m pytest tests/test_floors.py tests/test_public_api.py

# All image-classification networks of gluoncv's list: round trip and every layer's features. About 15 minutes.
test-zoo: $(VENV)/.installed-test
	$(PY) -m pytest tests/model_handler/test_gluoncv_zoo.py -m "slow or not slow" -s --timeout 3600

# The networks that ship with the package, on their own test images. Needs ../shared.
test-zoo-models: $(VENV)/.installed-test
	$(PY) -m pytest tests/zoo -m "slow or not slow" --timeout 3600

# The command line in processes of its own: interruptions, terminals, closed streams. About three minutes.
test-cli: $(VENV)/.installed-test
	$(PY) -m pytest tests/cli -m "slow or not slow"

# The report in headless Chromium: no console error, no request, nothing wider than the screen. Needs Debian's chromium.
test-browser: $(VENV)/.installed-test
	$(PY) -m pytest tests/test_report_browser.py -rs

# Three layers of SqueezeNet from 256 and 1,024 CIFAR-10 images: images a second, peak memory. Needs ../shared.
bench-extract: $(VENV)/.installed
	$(PY) benchmarks/extract.py

# `xfer2 extract` beside the library call, 5,000 and 20,000 small images to Parquet: images a second, memory. Needs ../shared.
bench-cli: $(VENV)/.installed
	$(PY) benchmarks/command_line.py

# Heads on features of CIFAR-10: time, accuracy, calibration; conformal sets, abstaining, out-of-distribution. Needs ../shared.
bench-heads: $(VENV)/.installed
	$(PY) benchmarks/heads.py

# What an epoch of fine-tuning costs with the frozen part cached; fine-tuning beside LR and training from scratch. Needs ../shared.
# About forty minutes; `LOG=file` here and below keeps what was found, and goes on where it was.
bench-train: $(VENV)/.installed
	$(PY) benchmarks/train.py $(if $(LOG),--log $(LOG))

# Two towers, stitch and PTU beside fine-tuning, 10 to 200 images a class: accuracy, and what an epoch costs. Needs ../shared.
# About three hours.
bench-modular: $(VENV)/.installed
	$(PY) benchmarks/modular.py $(if $(LOG),--log $(LOG))

# A recurrent network from digits to the letters of three alphabets: PTU beside fine-tuning. Needs ../shared.
# `DRAWINGS=changed` augments them, which the paper does not.
bench-omniglot: $(VENV)/.installed
	$(PY) benchmarks/omniglot.py $(if $(LOG),--log $(LOG)) $(if $(DRAWINGS),--drawings $(DRAWINGS))

# Learning without Forgetting beside fine-tuning: the new task, the old one, tasks one after another. Needs ../shared.
bench-forgetting: $(VENV)/.installed
	$(PY) benchmarks/forgetting.py $(if $(LOG),--log $(LOG))

# `import xfer2` beside `import mxnet`.
bench-import: $(VENV)/.installed
	$(PY) benchmarks/import_time.py

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

INSTALL := sh scripts/system-packages.sh && $(VENV)/bin/pip install --quiet -c constraints.txt

$(VENV)/.installed: $(VENV)/bin/pip setup.py constraints.txt
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/bin/pip setup.py constraints.txt
	$(INSTALL) -e ".[test]"
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
