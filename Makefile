# make demo   the main job on a real old experiment, as a user would do it
# make test   linters, types, layers and all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The tests start some hundred programs, and each would compile TensorFlow's 1,800 modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-slow matrix lint check format bench fuzz property cost test-peers docs constraints hashes dist clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# What the demo needs is installed first and alone; its lines show how far it is.
DEMO := $(VENV)/.demo
INSTALL = $(BIN)/python -m pip install --no-compile --disable-pip-version-check -c constraints.txt \
  --config-settings editable_mode=compat -e

$(DEMO): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
	  { echo "needs Python 3.10 to 3.13; choose one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[trainer]'
	@touch $(DEMO)

$(STAMP): $(DEMO)
	$(INSTALL) '.[trainer,browse,cluster,remote,report,dev]'
	@touch $(STAMP)

demo: $(DEMO)
	@$(BIN)/python scripts/demo.py

test: lint
	$(BIN)/python -m pytest -n 3 --dist worksteal -m 'not slow'

# make test-slow   the tests that take minutes: a kill before every system call, for every lineage
test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# make matrix  renew the counts of the README: two faults at each call of every command that changes a checkpoint
matrix: $(STAMP)
	CKPT_TOOLS_MATRIX=1 $(BIN)/python -m pytest -q -o faulthandler_timeout=0 -m slow -k all_pairs tests/ckpt_tools/transactions/test_matrix.py

# make lint   only the linters, types and layers
lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --cache-dir .import_linter_cache

# make format put the code into the one format
format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# make bench  the benchmarks, as ratios to references measured in the same run (VIDEO_GAMES=DIR adds that dataset)
bench: $(STAMP)
	$(BIN)/python benchmarks/inspect_startup.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/step_twins.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/prepare.py
	$(if $(VIDEO_GAMES),$(BIN)/python benchmarks/video_games.py $(VIDEO_GAMES))
	$(if $(VIDEO_GAMES),$(BIN)/python benchmarks/quality.py $(VIDEO_GAMES))
	$(if $(VIDEO_GAMES),$(BIN)/python benchmarks/recipes.py video_games $(VIDEO_GAMES))
	$(BIN)/python benchmarks/backfill_cost.py
	$(BIN)/python benchmarks/backfill_workers.py
	$(BIN)/python benchmarks/verify_throughput.py
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/inspect_many.py
	$(BIN)/python benchmarks/guard_overhead.py

# make fuzz   a million damaged files; CASES=N for another number, KINDS="h5 zip" for some kinds
CASES ?= 1000000
KINDS ?= bundle v1 h5 zip any
JOBS ?= 2
fuzz: $(STAMP)
	PYTHONPATH=tests/support:tests/fuzz $(BIN)/python -m fuzz_formats --cases $(CASES) --kinds $(KINDS) --jobs $(JOBS)

# make property  every command on a million odd directories: no bug, no wrong output; CASES=N, JOBS=N
PROPERTY_KINDS ?= bundles runs ledgers fixtures keras others declared
property: $(STAMP)
	PYTHONPATH=tests/support:tests/fuzz $(BIN)/python -m fuzz_commands --cases $(CASES) --kinds $(PROPERTY_KINDS) --jobs $(JOBS)

# make cost  what commands take on files that chance makes and makes larger: at most linear; CASES=N, JOBS=N
COST_KINDS ?= tensors objects lines directories ledgers datasets messages
cost: $(STAMP)
	PYTHONPATH=tests/support:tests/fuzz $(BIN)/python -m fuzz_costs --cases $(CASES) --kinds $(COST_KINDS) --jobs $(JOBS)

# make test-peers  checkpoints below PEERS=DIR that other projects' suites left: read, rewritten, undone, beside TensorFlow
test-peers: $(STAMP)
	$(if $(PEERS),,$(error which directory? make test-peers PEERS=DIR))
	PYTHONPATH=tests/support $(BIN)/python tests/peers/peers.py '$(PEERS)'

# make docs   the documentation as a site, in site/
docs: $(STAMP)
	$(BIN)/mkdocs build --strict

# make constraints  renew constraints.txt from pyproject.toml
constraints: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.10 --all-extras --upgrade --quiet --no-header \
	  --no-annotate pyproject.toml -o constraints.new
	{ head -n 1 constraints.txt; cat constraints.new; } > constraints.tmp
	mv constraints.tmp constraints.txt && rm constraints.new
	$(MAKE) hashes

# make hashes  renew requirements/*.txt: the versions of constraints.txt with the digest of every file (pip --require-hashes)
COMPILE = $(BIN)/uv pip compile --universal --python-version 3.10 --generate-hashes \
  --no-emit-find-links --no-header --no-annotate --upgrade --quiet -c constraints.txt --no-emit-index-url
hashes: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	mkdir -p requirements
	$(COMPILE) --all-extras pyproject.toml -o requirements/all.txt
	echo 'setuptools>=77' | $(COMPILE) pyproject.toml - -o requirements/plain.txt
	printf '%s\n' build 'setuptools>=77' | $(COMPILE) - -o requirements/build.txt

# make dist   the sdist and the wheel, with man pages and completion, in dist/
dist: $(STAMP)
	$(BIN)/python scripts/generate_man.py
	$(BIN)/python -m build

# make clean  remove the environment and everything built
clean:
	rm -rf $(VENV) build dist share *.egg-info demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
