# Everything is installed into .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Has the same module name as mosaicml-streaming, so it needs an environment of its own: a thin one,
# which takes everything else from the first.
COMMUNITY := $(VENV)-community
# Wants an older streaming and an older transformers than the first has: nothing can be shared.
LLMFOUNDRY := $(VENV)-llmfoundry
INSTALLED := $(VENV)/.installed

# Streaming counts the names of its shared memory and of its lock files from 0, so each part of the
# tests has a /dev/shm and a folder for temporary files of its own. To train in the process of the
# tests makes it a rank, and what is forked from it later would wait for others: such tests belong
# to test-commands and test-algorithm. So do those that ask an object store in the process of the
# tests: what is forked later could not.
PARTS := test-streaming test-others test-commands test-algorithm
test-algorithm: WHICH = tests/algorithm
test-commands: WHICH = tests/cli tests/recipes tests/conversion
test-streaming: WHICH = tests/streaming
test-others: WHICH = $(addprefix --ignore=tests/,algorithm cli recipes conversion streaming)
$(PARTS): TMP = $${TMPDIR:-/tmp}/$(notdir $(CURDIR))-$@
APART = unshare --user --map-root-user --mount sh -c 'mount -t tmpfs tmpfs /dev/shm && exec "$$@"' sh

.PHONY: help install demo docs test $(PARTS) test-grid test-community test-llmfoundry lint format clean

help:  ## Show this list.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(INSTALLED): pyproject.toml
	@echo "Installing into $(VENV) (about 8 GB and some minutes the first time) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(INSTALLED)  ## Make .venv and install the package into it.

demo: $(INSTALLED)  ## Train on digits four ways, print a table, write an HTML report.
	$(BIN)/composer-dataagent demo

# The source folder is the repository, so that links between its files are links between pages.
docs: $(INSTALLED)  ## Make pages of the guides and the API.
	$(BIN)/python -m sphinx --quiet -W --keep-going -n -c docs . build/docs
	@echo build/docs/index.html

# One more at a time than a small machine has cores, for they wait as well; one by one where
# the system gives no /dev/shm of one's own.
test: $(INSTALLED) lint  ## Lint, type-check and run the whole test suite.
	if $(APART) true; then OMP_NUM_THREADS=1 $(MAKE) --keep-going --jobs 3 $(PARTS); \
	  else $(MAKE) --keep-going --jobs 1 $(PARTS) APART=; fi

$(PARTS): $(INSTALLED)
	mkdir -p $(TMP) && TMPDIR=$(TMP) $(APART) $(BIN)/python -m pytest $(WHICH)

test-grid: $(INSTALLED)  ## All combinations of settings, ranks and kills; takes long.
	$(BIN)/python -m pytest -m grid

$(COMMUNITY)/.installed: $(INSTALLED)
	$(PYTHON) -m venv $(COMMUNITY)
	$(COMMUNITY)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'streaming-community>=0.14,<0.15'
	$(COMMUNITY)/bin/python -c "import pathlib, sysconfig; \
	  site = lambda venv: next(pathlib.Path(venv, 'lib').glob('python3*/site-packages')); \
	  (site('$(COMMUNITY)') / 'first.pth').write_text(f\"{site('$(VENV)').resolve()}\n{pathlib.Path.cwd()}\n\")"
	@touch $@

test-community: $(COMMUNITY)/.installed  ## The streaming tests against the fork streaming-community.
	$(COMMUNITY)/bin/python -m pytest -W 'ignore:mosaicml-streaming is installed:RuntimeWarning' tests/streaming

$(LLMFOUNDRY)/.installed: pyproject.toml
	@echo "Installing into $(LLMFOUNDRY) (about 7 GB and 5 minutes the first time) ..."
	$(PYTHON) -m venv $(LLMFOUNDRY)
	$(LLMFOUNDRY)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[llmfoundry,test]'
	@touch $@

# Apart, so that the first fails where its tests are not even collected.
test-llmfoundry: $(LLMFOUNDRY)/.installed  ## llm-foundry trains with us, killed and resumed; the streaming tests on 0.12.
	$(LLMFOUNDRY)/bin/python -m pytest tests/llmfoundry
	$(LLMFOUNDRY)/bin/python -m pytest tests/streaming

lint: $(INSTALLED)  ## ruff and pyright.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(INSTALLED)  ## Let ruff fix and format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove what demo and tests wrote (not .venv).
	rm -rf runs data build dist .pytest_cache .ruff_cache .hypothesis
