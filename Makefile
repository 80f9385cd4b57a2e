# Every target sets up what it needs first (tests/lab/setup.sh). Nothing outside this directory and the
# user's cache changes, but that python3-venv is installed where Python came without it.
# PYTHON=python3.12 chooses the interpreter of a new environment.
PY := .venv/bin/python
# numpy's own threads would only take the cores away from what is measured.
export OPENBLAS_NUM_THREADS := 1
BENCH := media
# So many test processes, a file at a time each: tests with real calls mostly wait, and come first.
TESTS := 2

.DEFAULT_GOAL := help
.PHONY: help setup demo docs test bots check bench drill soak lock audit clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## .venv, and Asterisk, Redis and callers in a private root under ~/.cache
	@tests/lab/setup.sh

demo: setup ## a real call with the offline agent (SCRIPT=file; OUTBOUND=1: the agent calls; PAGE=1: leave the dashboard up; PHONE=1: a call of yours)
	@$(PY) -m tests.demo $(if $(SCRIPT),--script "$(SCRIPT)") $(if $(OUTBOUND),--outbound) $(if $(PAGE),--page) $(if $(PHONE),--phone)

test: check bots ## check, then every test: unit, contract (engines), integration (real Redis), pbx (real Asterisk)
	@$(PY) -m pytest -n $(TESTS) --dist loadfile --no-loadscope-reorder \
		tests/pbx tests/browser tests/integration tests/contract tests/unit

bots: # what tests talk to that is none of ours: Pipecat, in an environment of its own; a browser
	@tests/lab/setup.sh bots stack browser

check: setup ## style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy --strict bridge

drill: setup ## kill and freeze processes under load (DRILL=name: one of them; ROUNDS=n)
	@$(PY) -m tests.drill $(if $(DRILL),--drill $(DRILL)) $(if $(ROUNDS),--rounds $(ROUNDS))

soak: setup ## calls that come and go, a hundred at a time, then too many (SOAK_S=1800; writes out/soak)
	@$(PY) -m tests.soak

bench: ## BENCH=media: what a call costs (9 min); turns: who has the floor (16 min); engines: what a bot costs (5 min); web: the dashboard (2 min); capacity: calls a host, hosts a Redis (4 min)
	@tests/lab/setup.sh bench $(if $(filter engines,$(BENCH)),bots stack)
	@$(PY) -m tests.bench $(BENCH) $(if $(ONLY),--only $(ONLY))

docs: setup ## docs/configuration.md and docs/schema, from the code
	@$(PY) -m tests.documents

lock: setup ## requirements.lock, from pyproject.toml (asks the package index)
	@$(PY) -m venv .venv/tools && .venv/tools/bin/pip install -q --disable-pip-version-check uv
	@.venv/tools/bin/uv pip compile pyproject.toml --all-extras --universal --generate-hashes \
		--python-version 3.11 -q -o requirements.lock --no-header

audit: ## known holes in the locked versions (asks the package index, a question a package)
	@$(firstword $(wildcard $(PY)) $(PYTHON) python3) -m venv .venv/tools && .venv/tools/bin/pip install -q --disable-pip-version-check pip-audit
	@.venv/tools/bin/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

clean: ## remove the environment and all output (the private root stays in the cache)
	rm -rf .venv .lab .lab-bench .lab-stack .lab-pipecat .lab-browser out .pytest_cache .mypy_cache .ruff_cache .hypothesis
