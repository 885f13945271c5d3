# breakeven: what can be done here, one line a target; the longer work is in scripts/.
# Variables: VENV (.venv), PYTHON (the interpreter to make it with), PYTEST_ARGS, CARGO_TEST_ARGS.

VENV ?= .venv
export VENV
PY := $(VENV)/bin/python
RUN := bash scripts

.DEFAULT_GOAL := help
.PHONY: help venv build demo test test-rust test-python test-other-pythons test-all-pythons test-upstream test-upstream-all \
	bench why-json lint format loom clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-28s%s\n", $$1, $$2 }'

venv: ## the virtual environment with the tools, without the native module
	@$(RUN)/venv.sh $(VENV)

build: ## the native module, optimised, in the virtual environment
	@$(RUN)/build.sh $(VENV) test,interop,lint,bench

demo: build ## real multiprocessing programs: serially, under the stdlib, under breakeven; then why they are slow
	@$(PY) scripts/demo.py

test: test-rust loom test-python test-other-pythons test-upstream ## everything: Rust, models, Python on each interpreter found

test-rust: venv ## unit, property, conformance, crash and kill tests of the crates
	@$(RUN)/test_rust.sh

test-python: build ## the Python tests on the main interpreter
	@$(RUN)/pytest.sh $(VENV)

test-other-pythons: ## the Python tests on every other CPython 3.10 to 3.13 found
	@$(RUN)/test_pythons.sh --others

test-all-pythons: ## the Python tests on every CPython 3.10 to 3.13 found, each in its own environment
	@$(RUN)/test_pythons.sh

test-upstream: build ## CPython's own tests against breakeven: the part that `make test` runs
	@$(RUN)/test_upstream.sh

test-upstream-all: build ## the same on every interpreter found, in every way in, for every start method
	@$(RUN)/test_upstream.sh --all

bench: build ## against the stdlib and peers, interleaved, a quarter of an hour; writes docs/benchmarks.json and .md
	@$(RUN)/venv.sh .venv-bench
	@.venv-bench/bin/python -m bench setup
	@.venv-bench/bin/python -m bench --publish

why-json: venv ## docs/why-json.md from the types of crates/trace/src/report.rs
	@WRITE_WHY_JSON=1 cargo test --quiet -p breakeven-trace --lib the_page_of_the_schema_is_true

lint: venv ## rustfmt, clippy, ruff, mypy, and the arrows between the layers
	@$(RUN)/lint.sh

format: venv ## rewrite the sources as lint wants them
	@$(RUN)/lint.sh --fix

loom: ## model checks of the wait, publish and hand-over protocols (loom), and of recovery (shuttle)
	@$(RUN)/models.sh

clean: ## remove everything that building and testing made
	rm -rf target .venv .venv-3.* .pytest_cache .mypy_cache .ruff_cache .hypothesis python/breakeven/*.so
