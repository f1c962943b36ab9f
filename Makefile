# make run: the default study. make test: the whole suite. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY_OF_calibrate := calibration
STUDY_OF_ladder := ladder
TINY := store/quick/models/tiny-gemma3

.PHONY: run calibrate ladder test test-browser test-cluster test-sharing test-models models-table models-sweep quick lint benchmark verify test-gpu help
.DEFAULT_GOAL := help

help:
	@echo "make run    install, run the default study, print where its figures are"
	@echo "make quick  a study of a random tiny model, in a minute: every file, no meaning"
	@echo "make calibrate  which measures follow a sharing that was planted, in models trained here"
	@echo "make ladder     what size does to sharing, in models trained here"
	@echo "make test   install, run the whole test suite"
	@echo "make test-browser   the page of a small study in Debian's Chromium"
	@echo "make test-cluster   the small study on a real SLURM of one node, in minutes"
	@echo "make test-sharing   two collaborators on a folder and on a real S3 server"
	@echo "make test-models    every architecture, tiny and random, beside its own plain forward"
	@echo "make models-table   the table of docs/models.md"
	@echo "make models-sweep   every causal model of transformers, as small as its settings allow"
	@echo "make benchmark   beside lm-evaluation-harness, nnsight and others, in half an hour or more;"
	@echo "            options in BENCHMARK=, such as BENCHMARK='--quick --only lens'"
	@echo "make verify   beside other tools: numbers into docs/verification.md, in half an hour or more;"
	@echo "            options in VERIFY=, such as VERIFY='--data ../shared/data'"
	@echo "make test-gpu   on a machine with a card: right there too, and how fast"
	@echo "make lint   formatting, linters, types"

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|testing|transformers/models)/' $(VENV)/lib || true  # pip would use one core
	touch $@

run: $(VENV)/.installed
	$(BIN)/snakemake --cores all
	@echo "Report: results/report.html   table: results/summary.md   figures: results/*/*/figures"

$(TINY): | $(VENV)/.installed
	$(BIN)/python workflow_scripts/make_tiny_model.py $@

quick: $(VENV)/.installed $(TINY)
	$(BIN)/snakemake --cores all --configfile config/studies/quick.yaml
	@echo "Report: results/quick/report.html   figures: results/quick/*/*/figures"

calibrate ladder: $(VENV)/.installed
	$(BIN)/snakemake --cores all --configfile config/studies/$(STUDY_OF_$@).yaml
	@echo "Report: results/$(STUDY_OF_$@)/report.html   table: results/$(STUDY_OF_$@)/summary.md"

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope

# In Debian's chromium, where it is installed; the small study is run for it.
test-browser: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/browser/requirements.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser -rs

# On a SLURM of one node that it starts itself: Debian's slurmctld slurmd slurm-client munge, and root.
test-cluster: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cluster -rs

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test-sharing: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/sharing/requirements.txt
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=5 tests/sharing

test-models: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/architectures

models-sweep: $(VENV)/.installed
	PYTHONPATH=workflow_scripts:tests $(BIN)/python -m architectures.every_class

models-table: $(VENV)/.installed
	PYTHONPATH=workflow_scripts:tests $(BIN)/python -W ignore -m architectures.table

# Random models of a billion parameters; of a run's packages it needs torch, transformers and files.
test-gpu: $(VENV)/.installed
	PYTHONPATH=workflow_scripts:tests:. $(BIN)/python -m tests.gpu.check

BENCH := .venv-benchmark

$(BENCH)/.installed: requirements.txt tests/benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/benchmarks/requirements.txt
	touch $@

benchmark: $(BENCH)/.installed
	PYTHONPATH=workflow_scripts:tests $(BENCH)/bin/python -W ignore -m benchmarks $(BENCHMARK)

VERIFIED := .venv-verify

# A tool that cannot be installed is named in the document; the others are compared.
$(VERIFIED)/.installed: requirements.txt tests/benchmarks/requirements.txt tests/verification/requirements.txt
	$(PYTHON) -m venv $(VERIFIED)
	$(VERIFIED)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VERIFIED)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/verification/requirements.txt \
		|| sed -n 's/^\([a-z].*==.*\)/\1/p' tests/benchmarks/requirements.txt tests/verification/requirements.txt | xargs -n 1 $(VERIFIED)/bin/python -m pip install --quiet --no-deps \
		|| echo "make verify: not all tools could be installed (see above); the others are compared"
	touch $@

verify: $(VERIFIED)/.installed
	PYTHONPATH=workflow_scripts:tests $(VERIFIED)/bin/python -W ignore -m verification $(VERIFY)
