# Every target sets up what it needs by itself; `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
PROTOS := protos/kernroll/v1
# Passed on to the command behind a target: make test ARGS="-k waves".
ARGS ?=
# A worker a processor, each with its own tests; ARGS="-n 0" runs them one by one, as a debugger needs it.
WORKERS := -n auto --maxprocesses 4 --dist worksteal

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { gsub(/[$$][$$]/, "$$", $$2); printf "  \033[1mmake %-12s\033[0m %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST)) \
		| if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi

.PHONY: setup
setup: ## Virtual environment, Debian packages (named first), the project itself; every other target runs this
	@deploy/setup.sh

.PHONY: demo
demo: setup ## Two rollouts over a fleet of real virtual machines; KERNELS=6.18.15:7.3.4 rolls another pair
	@$(BIN)/kernroll lab demo $(if $(KERNELS),--kernels $(KERNELS)) $(ARGS)

.PHONY: test
test: setup ## The test suite, one rollout over real virtual machines included
	@$(BIN)/python -m pytest -m 'not e2e and not metal and not cuts' $(WORKERS) $(ARGS)

.PHONY: test-fast
test-fast: setup ## The tests that need no virtual machine
	@$(BIN)/python -m pytest -m 'not vm and not e2e and not metal and not cuts' $(WORKERS) $(ARGS)

.PHONY: e2e
e2e: setup ## Only the tests on real virtual machines, with everything that can break a rollout; takes about half an hour
	@$(BIN)/python -m pytest -m 'vm or e2e' -o faulthandler_timeout=3600 tests/e2e tests/component/test_boot_interrupted.py $(ARGS)

.PHONY: e2e-metal
e2e-metal: setup ## Kernels, good and bad, for a real virtual machine that starts from its own disk; more than an hour where it is emulated
	@$(BIN)/python -m pytest -s -m metal -o faulthandler_timeout=10800 tests/e2e $(ARGS)

.PHONY: e2e-cuts
e2e-cuts: setup ## Cuts the power of such a machine in the middle of rollouts; CUTS=12 SHAPE=x86_64-bios-grub; some ten minutes a cut
	@CUTS=$(CUTS) SHAPE=$(SHAPE) SEED=$(SEED) $(BIN)/python -m pytest -s -m cuts -o faulthandler_timeout=86400 tests/e2e $(ARGS)

.PHONY: sim
sim: setup ## Drawn worlds under the controller's core, 9000 of 20 hosts, 1000 of 200, one of 10 000; resumable; SEEDS=… sets how many
	@$(BIN)/python tests/sim/run_seeds.py $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

.PHONY: sim-mutants
sim-mutants: setup ## Break one rule of the controller at a time and show that the simulator finds each
	@$(BIN)/python tests/sim/find_mutants.py $(ARGS)

.PHONY: fuzz
fuzz: setup ## Inputs nobody thought of for every parser and every message, 10 minutes each; resumable; MINUTES=1; ARGS=--list
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --disable-pip-version-check --quiet \
		--no-input -e '.[fuzz]' || echo "make fuzz: atheris cannot be installed here; going on without it" >&2
	@$(BIN)/python tests/fuzz/run_fuzz.py $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

.PHONY: check
check: setup ## Style, types, import layers, size limits and links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy controller agent
	$(BIN)/lint-imports --no-logo
	PATH=$(abspath $(BIN)):$$PATH ansible-lint --offline -q playbooks
	$(BIN)/python -m pytest -q tests/test_tidy.py

.PHONY: bench
bench: setup ## A reconcile tick with one change at 1 000, 10 000 and 100 000 hosts; listing and planning 10 000 hosts
	@$(BIN)/python tests/bench/run.py $(ARGS)
	@$(BIN)/python tests/bench/inventory.py

.PHONY: bench-plays
bench-plays: setup ## What plays over ssh cost beside the same through agents, at 1, 10 and 50 hosts: docs/performance.md
	@$(BIN)/python tests/bench/plays.py $(ARGS)

.PHONY: bench-hostile
bench-hostile: setup ## What other hosts notice while one misbehaves in every way we know; ARGS="--write docs/limits.md" keeps the table
	@$(BIN)/python tests/bench/hostile.py $(ARGS)

.PHONY: bench-agent
bench-agent: setup ## What the agent itself costs, beside peers; ARGS=--guest: in a guest; --sweep: does it move anon_sweep: docs/install.md
	@$(BIN)/python tests/bench/footprint.py --write docs/install.md $(ARGS)

.PHONY: noise
noise: setup ## How much every workload's figures scatter, here and in lab guests (as root; resumable): docs/workloads.md
	@$(BIN)/python tests/bench/scatter.py --write docs/workloads.md $(ARGS)

.PHONY: calibration
calibration: setup ## The gate and the judges in use on the same draws, 10000 repetitions, resumable: docs/calibration.md
	@nice $(BIN)/python tests/calibration/calibrate.py --write docs/calibration.md $(ARGS)

.PHONY: proto
proto: setup ## Generate the gRPC and protobuf modules from the .proto files
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -I . --python_out=. --grpc_python_out=. \
		--mypy_out=. --mypy_grpc_out=. $(PROTOS)/*.proto

.PHONY: docs
docs: setup ## Generate the pages that are drawn from the code's own tables
	@$(BIN)/python -m controller.views.rollouts.diagrams > docs/journey.md
	@$(BIN)/python -m agent.cli.manual > docs/parameters.md
	@$(BIN)/python tests/support/architecture_page.py

.PHONY: completion
completion: setup ## Print shell completion for kernroll; use it with: eval "$$(make completion)"
	@case "$${SHELL##*/}" in zsh | fish) kind="$${SHELL##*/}" ;; *) kind=bash ;; esac; $(BIN)/kernroll completion "$$kind"

.PHONY: clean
clean: ## Remove what was made here: the virtual environment and the caches of the tools
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find controller agent protos tests -name __pycache__ -type d -prune -exec rm -rf {} +
