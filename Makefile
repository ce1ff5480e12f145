# Each target sets up what it needs: a virtual environment from the lock, nothing else, no root.
PYTHON ?= python3
PORT ?= 8484
DATA ?= data
UV := $(shell command -v uv 2>/dev/null || echo .cache/uv/bin/uv)
READY := .venv/.ready
BIN := .venv/bin

.PHONY: run test check docs bench faults kafka clean

run: $(READY)
	@HUB_MAKE=1 exec $(BIN)/hub demo --data $(DATA) --port $(PORT)

test: check
	$(BIN)/pytest -m "not faults" -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: $(READY)
	$(BIN)/pytest -m faults --timeout 7200

docs: $(READY)
	$(BIN)/hub reference docs/reference

kafka: $(READY)
	@exec $(BIN)/python -m tests.services.kafka_by_hand

bench: $(READY)
	$(BIN)/python -m bench

clean:
	rm -rf .venv .cache build dist

$(READY): pyproject.toml uv.lock
	@test -x "$(UV)" || { $(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install --quiet 'uv>=0.8'; }
	@$(UV) sync --locked --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@touch $(READY)
