# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes its own .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test versions stress check bench peers soak trees chaos fuzz figures docs clean

demo: .venv/.ready  ## the dragon story on a real language model, stopped while it is being told
	$(BIN)/desist demo --yes

# A test that fails once is a failure. Only with DESIST_RETRY=1, on a machine whose load is unknown, are the failed tests run
# once more, and named twice in the output; a run that breaks off leaves nothing to run again, and is a failure too.
define pytest
	$(BIN)/python -m pytest -q $(1) $(2) || { test -n "$$DESIST_RETRY" && $(BIN)/python -m pytest -q $(1) --last-failed --last-failed-no-failures none; }
endef

test: check  ## everything that must hold; a test that fails once is a failure
	$(call pytest,--ignore tests/calls --ignore tests/chaos/network,-n 2 --dist loadfile)
	$(call pytest,tests/calls --ignore tests/calls/process,-n 2 --dist loadfile)
	$(call pytest,tests/calls/process)

# Other versions of Python, where they are installed: those of the classifiers in pyproject.toml.
versions:  ## the parts of the suite that depend on the interpreter, on each other version of Python that is here
	for version in 3.12 3.13; do ./.ci/version $$version || exit 1; done

stress: .venv/.dev  ## the whole suite three times, with a busy process on each core
	$(BIN)/python -m bench.stress

check: .venv/.dev  ## style, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: .venv/.dev  ## figures, each beside its target
	$(BIN)/python -m bench

peers: .venv/.dev  ## desist beside langgraph's checkpointers, DBOS and procrastinate, each in an environment of its own
	$(BIN)/python -m bench.peers

soak: .venv/.dev  ## ten minutes of mixed load; nothing may be lost or left over
	$(BIN)/python -m bench.soak

trees: .venv/.dev  ## 2,000 random trees of threads, tasks and processes, each cancelled at a random moment; jobs and sockets of others
	$(BIN)/python -m bench.trees --seed $(or $(SEED),1)
	$(BIN)/python -m bench.foreign_work

chaos: .venv/.dev  ## 520 runs on each database while workers are killed and frozen and the database fails; hosts that are cut off (root)
	$(BIN)/python -m bench.chaos --db sqlite --runs 520 --seed $(or $(SEED),7)
	$(BIN)/python -m bench.chaos --db postgres --runs 520 --seed $(or $(SEED),7)
	$(BIN)/python -m pytest -q tests/chaos/network

fuzz: .venv/.dev  ## a million odd and broken streams for the readers of the three APIs, and as many answers and arguments
	$(BIN)/python -m bench.fuzz --inputs $(or $(INPUTS),1000000)
	$(BIN)/python -m bench.fuzz_answers --inputs $(or $(INPUTS),1000000)

docs: .venv/.dev  ## what the docs take from the code: the diagram of statuses
	$(BIN)/python docs/generate.py

.venv/.ready: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.dev: .venv/.ready
	$(BIN)/python -m pip install --quiet --editable '.[web,server]' --group dev
	touch $@

clean:
	rm -rf .venv
