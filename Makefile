# The two commands of the README are `make run` and `make test`; each makes its own .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
RIVALS := .venv-peers
# As PyPI gives them, seen working; what each asks for (uvloop, orjson, msgspec) comes with it.
RACED := cryptofeed==3.0.1 ccxt==4.5.90 nautilus_trader==1.231.0
# What an editable install has to be done again for: what is compiled is built by it.
INSTALLED := pyproject.toml requirements.lock hatch_build.py $(wildcard src/onetape/*/_*.pyx src/onetape/*/_*.pxd)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-peers lint types contracts bench bench-peers lock demo clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 12

run: $(VENV)/.run  ## shows live, verified books and trades, from the simulator; further arguments in ARGS
	@$(BIN)/onetape run --sim $(ARGS)

test: $(VENV)/.test  ## every test; of the long seeded ones a sample
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

test-long: $(VENV)/.test  ## every test, the long seeded ones in full
	ONETAPE_LONG=1 $(BIN)/pytest -n auto $(ARGS)

test-peers: $(VENV)/.peers  ## other people's clients against the simulator: installs them
	$(BIN)/pytest tests/peers -rP $(ARGS)

lint: $(VENV)/.test  ## style
	$(BIN)/ruff check

types: $(VENV)/.test  ## mypy --strict
	$(BIN)/mypy

contracts: $(VENV)/.test  ## the import contracts: the architecture
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## speeds, by stage
	$(BIN)/python bench/stages.py
	$(BIN)/python bench/anatomy.py
	$(BIN)/python bench/tricks.py
	$(BIN)/python bench/scale.py
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/storage.py
	$(BIN)/python bench/compaction.py
	$(BIN)/python bench/lake.py
	$(BIN)/python bench/live.py
	$(BIN)/python bench/backfill.py

bench-peers: $(VENV)/.test $(RIVALS)/.raced  ## speeds, against other people's clients: installs them in a place of their own
	$(BIN)/python bench/peers.py
	$(BIN)/python bench/race.py

lock:  ## pins what pyproject.toml allows (needs uv)
	uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --no-header --no-annotate --quiet \
		--no-emit-index-url --no-emit-find-links --upgrade --output-file requirements.lock

demo: $(VENV)/.test  ## makes the built-in session anew
	$(BIN)/python tools/make_session.py

clean:  ## removes what was installed and built
	rm -f src/onetape/book/_kernel.*.so src/onetape/book/_kernel.missing.txt
	rm -rf $(VENV) $(RIVALS) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "OneTape needs Python 3.11 or newer: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo "making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made $(INSTALLED)
	@echo "installing OneTape ..."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	@echo "installing other people's clients ..."
	@$(INSTALL) --editable '.[test,peers]'
	@touch $@

$(VENV)/.test: $(VENV)/.made $(INSTALLED)
	@echo "installing OneTape and what its tests need ..."
	@$(INSTALL) --editable '.[test]'
	@touch $@ $(VENV)/.run

# By Python 3.13, for which all of them have wheels, if there is one (pyenv hides it until it is named); else by ours.
$(RIVALS)/.raced: $(VENV)/.made
	@echo "installing those to race against ..."
	@found=$$(pyenv versions --bare 2>/dev/null | grep '^3\.13\.' | tail -1); [ -z "$$found" ] || export PYENV_VERSION=$$found; \
		if python3.13 -c '' 2>/dev/null; then python3.13 -m venv $(RIVALS); else $(BIN)/python -m venv $(RIVALS); fi
	@for it in $(RACED); do $(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check $$it \
		|| echo "$$it cannot be installed here: it will not be raced" >&2; done
	@touch $@
