# Every target works on a machine that has only Python, make and a compiler: it creates its own .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# LiteLLM needs other versions than those pinned here, so it has its own environment.
LITELLM := .venv-litellm
# So do clients: one environment for each group of them whose dependencies agree.
CLIENTS := .venv-clients
CLIENT_GROUPS := agents aider anthropic instructor node sdks
PIN := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# CI=1 makes a missing program a failure, not a skip.
export LMARENA_BRIDGE_NO_SKIP ?=

# `make soak MINUTES=90 CURVE=docs/soak/NAME` runs for less, and writes its curve there.
MINUTES ?= 480
CURVE ?= build/soak

.PHONY: demo run test test-slow test-clients check rewritten format bench soak screenshots man lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/.runtime  ## the bridge against the embedded arena: no account needed
	@$(BIN)/lmarena-bridge demo

run: $(VENV)/.runtime  ## the bridge, with bridge.toml
	@$(BIN)/lmarena-bridge serve

# Tests start many interpreters: the first one writes the byte code for all.
test test-slow test-clients: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.test  ## what CI runs: lint, types, import contracts, tests
	@$(MAKE) --no-print-directory --jobs=2 check rewritten
	$(BIN)/pytest -m "not slow and not clients" --numprocesses=4 --dist=worksteal

test-slow: $(VENV)/.test  ## a hundred kills, three thousand examples per property
	$(BIN)/pytest -m slow --hypothesis-profile=slow --numprocesses=3 --dist=worksteal

test-clients: $(VENV)/.test  ## the dashboard in a browser, and unmodified clients (SDKs, aider, …), installed first
	$(MAKE) --jobs=4 $(CLIENT_GROUPS:%=$(CLIENTS)/%/.installed)
	$(BIN)/python tests/clients/offline.py $(BIN)/pytest -m clients --numprocesses=2 --dist=loadfile tests/clients
	$(BIN)/pytest -m clients --numprocesses=2 --dist=worksteal tests/browser

check: $(VENV)/.test  ## lint, types and import contracts only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# pytest rewrites each test file when it is first imported: this does it once, while mypy runs, rather than in each worker.
rewritten: $(VENV)/.test
	-@$(BIN)/pytest --collect-only --quiet >/dev/null 2>&1

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test  ## the bridge's costs compared with a bare pipe: half an hour; `python -m bench --help` has more
	-$(MAKE) $(LITELLM)/.installed  # it is left out if it cannot be installed
	$(BIN)/python -m bench --markdown

soak: $(VENV)/.test  ## eight hours of mixed traffic, faults and restarts: nothing may grow, get lost or be confused
	$(BIN)/python tests/attacks/soak.py --minutes $(MINUTES) --out $(CURVE)

screenshots: $(VENV)/.test  ## take the pictures in docs/screenshots again: needs Chromium
	PYTHONPATH=tests/harness $(BIN)/python tests/browser/screenshots.py

man: $(VENV)/.runtime  ## a manual page of every command, in build/man: `man -M build/man lmarena-bridge`
	$(PIP) --require-hashes --no-deps -r requirements/man.txt
	PYTHONPATH=. $(BIN)/python tests/man_pages.py build/man/man1

lock: $(VENV)/.runtime  ## pin the dependencies of pyproject.toml again
	$(BIN)/python -m pip install --quiet pip-tools
	$(PIN) -o requirements/runtime.txt pyproject.toml
	$(PIN) --extra build -c requirements/runtime.txt -o requirements/build.txt pyproject.toml
	$(PIN) --extra build --extra test -c requirements/build.txt -o requirements/test.txt pyproject.toml
	$(PIN) -o requirements/litellm.txt requirements/litellm.in
	$(PIN) --constraint requirements/runtime.txt -o requirements/man.txt requirements/man.in
	for each in requirements/clients/*.in; do $(PIN) --allow-unsafe -o "$${each%.in}.txt" "$$each" || exit; done
	for each in requirements/clients/*/; do (cd "$$each" && npm install --package-lock-only --ignore-scripts) || exit; done

$(VENV)/.runtime: requirements/build.txt pyproject.toml
	@echo "Installing the bridge into $(VENV), once: this takes about half a minute."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Includes .runtime. uv needs a quarter of pip's time, but does not read pip's settings; where it fails, pip may succeed.
$(VENV)/.test: requirements/test.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	sed -n '/^uv==/,/# via/p' $< >$(VENV)/uv.txt
	$(PIP) --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $< || \
		$(PIP) --require-hashes -r $<
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.runtime $@

$(LITELLM)/.installed: requirements/litellm.txt
	$(PYTHON) -m venv $(LITELLM)
	$(LITELLM)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# uv takes 20 seconds, pip takes minutes.
$(CLIENTS)/%/.installed: requirements/clients/%.txt | $(VENV)/.test
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D) --require-hashes -r $<
	@touch $@

$(CLIENTS)/%/.installed: requirements/clients/%/package-lock.json
	@mkdir -p $(@D)
	cp requirements/clients/$*/package.json requirements/clients/$*/package-lock.json requirements/clients/$*/.npmrc $(@D)
	cd $(@D) && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) $(LITELLM) $(CLIENTS) build dist
