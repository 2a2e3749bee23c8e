# Everything a newcomer runs. `make help` lists the targets.

PYTHON ?= python3
VENV ?= .venv
# The exact pin is for this file alone: it is the release the results were made with. setup.cfg asks for torch>=2.6.
TORCH ?= torch==2.13.0
# bfloat16 pays on a GPU and on processors that multiply it, and slows training down elsewhere
PRECISION ?= $(shell nvidia-smi >/dev/null 2>&1 && echo --bf16 \
	|| { grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo --bf16 --use_cpu; })
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
MODEL := model_cards/whisper-tiny-en-toxmtl
export HF_HUB_OFFLINE := 1
# Libraries as large as torch take many seconds to compile: once, not in every command
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo space train pipeline-demo release test test-floor lint format clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/base: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) --editable .
	@touch $@

install: $(VENV)/installed ## Set up the environment for training, data and development in .venv

$(VENV)/installed: $(VENV)/base
	$(PIP) --editable ".[dev]"
	@touch $@

demo: $(VENV)/base ## Judge example clips with the released model (2 minutes, installation included)
	$(BIN)/toxmtl moderate $(MODEL) docs/examples/*.ogg

$(VENV)/space: $(VENV)/base
	$(PIP) --editable ".[space]"
	@touch $@

space: $(VENV)/space ## Serve a page to try the released model: clips, thresholds, keywords, a live microphone
	TOXMTL_MODEL=$(MODEL) $(BIN)/python space/app.py

train: install ## Make a corpus, fine-tune the released model on it, evaluate, judge clips (15 minutes on 2 cores)
	$(BIN)/python -m datasets_scripts.make_demo_corpus --output_dir demo_data
	$(BIN)/python run_mtl.py experiments/demo_mtl.json $(PRECISION)
	$(BIN)/toxmtl moderate runs/demo demo_data/examples/*.ogg

$(VENV)/whisper: $(VENV)/installed
	$(PIP) --editable ".[whisper,faster-whisper]"
	@touch $@

pipeline-demo: $(VENV)/whisper ## Make a data set of recordings whose truth is known, report what labelling costs, train on it
	$(BIN)/python -m datasets_scripts.pipeline_demo --output_dir pipeline_demo
	$(BIN)/python run_mtl.py experiments/demo_mtl.json $(PRECISION) \
		--dataset pipeline_demo/data/recogniser --output_dir runs/pipeline_demo --max_steps 20

release: install ## Make the Hub folder of the released model in model_cards/, from runs/voices-6
	$(BIN)/toxmtl export runs/voices-6 $(MODEL) --dtype float16 --base-model openai/whisper-tiny.en

test: install ## Run all tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-floor: ## Run all tests with the lowest versions that setup.cfg admits, pyctcdecode among them
	$(PYTHON) -m venv .venv-floor
	.venv-floor/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-floor/bin/uv pip install --quiet --python .venv-floor/bin/python --resolution lowest-direct \
		--editable ".[dev,pyctcdecode]"
	.venv-floor/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: install ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## Apply style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment, the demo corpus and runs
	rm -rf $(VENV) .venv-floor demo_data pipeline_demo runs
