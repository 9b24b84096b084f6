# make demo   environment if missing, then documents -> gated, quantised model -> table
# make test   the same environment with the test tools, then the tests
# make extras, make cluster   the tests of optional libraries, which they install: other stores, 4-bit weights; Ray
# make check  ruff, mypy, import-linter, generated pages
# make bench  the figures of the README, each beside its peer
# make docs   write the generated pages

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN ?= runs/demo
# The environment is made anew only when one of these changes; a second call does not touch the installer.
STAMP_INPUTS := pyproject.toml constraints.txt nano/pyproject.toml $(wildcard nano/src/fieldwise_nano/weights/*/card.json)
STAMP = $(shell cat $(STAMP_INPUTS) | sha256sum | cut -c1-16)

.PHONY: demo test extras cluster check bench docs slow clean

demo: $(VENV)/.demo
	@$(BIN)/fieldwise run --config recipes/quickstart.yaml --run $(RUN)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations 20 -m "not slow"

slow: $(VENV)/.dev
	@$(BIN)/python -m pytest -m slow

# What only runs with libraries that few need: other stores, trackers, 4-bit weights, lm-eval.
extras: $(VENV)/.dev
	@echo "installing qdrant, lancedb, lm-eval, bitsandbytes and trackers" >&2 && \
	$(PIP) -c constraints.txt -e '.[qdrant,lancedb,lm-eval,gpu,tensorboard,mlflow]' && \
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests/store tests/suite/test_suite_lm_eval.py tests/serve/test_serve_lm_eval.py \
		tests/train/test_quantised.py tests/train/test_preference_methods.py tests/train/test_trackers.py

# A Ray cluster of this machine, whose workers are killed.
cluster: $(VENV)/.dev
	@echo "installing ray" >&2 && $(PIP) -c constraints.txt -e '.[ray]' && $(BIN)/python -m pytest tests/train/test_on_ray.py

check: $(VENV)/.dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/python docs/build.py --check

bench: $(VENV)/.dev
	@for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

docs: $(VENV)/.dev
	@$(BIN)/python docs/build.py

# torch comes first and alone, so that its CPU build is taken where one is offered (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL):
# asked for by another package, the newest build with gigabytes of GPU libraries would come.
$(VENV)/.demo $(VENV)/.dev: $(VENV)/.%: FORCE
	@if [ "$$(cat $@ 2>/dev/null)" != "$(STAMP)" ]; then \
		test -x $(BIN)/python || { echo "making $(VENV)" >&2; $(PYTHON) -m venv $(VENV); } && \
		echo "installing torch" >&2 && $(PIP) "$$(grep '^torch==' constraints.txt)" && \
		echo "installing fieldwise[$*]" >&2 && $(PIP) -c constraints.txt -e '.[$*]' ./nano && \
		echo "$(STAMP)" > $@; \
	fi

FORCE:

clean:
	rm -rf $(VENV) runs build
