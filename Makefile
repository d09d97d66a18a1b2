# What one can do here. `make` alone lists it; every target sets up what it needs.

.DEFAULT_GOAL := help
BIN := .venv/bin
# The build of PyTorch: pypi is the locked one for CPUs, cpu the one without CUDA, cuda all of the locked one. The last choice is remembered.
TORCH ?= $(or $(patsubst .venv/.ready-%,%,$(wildcard .venv/.ready-*)),pypi)
READY := .venv/.ready-$(TORCH)
# Tests wait more than they compute, so that two cores have enough to do with four processes.
WORKERS ?= 4
UNIT := not contract and not e2e and not chart
QUICK := $(UNIT) and not slow
PYTHONS ?= 3.11 3.13
# Tests start many processes: bytecode is kept, even where the environment says not to, but not among the sources.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX ?= $(CURDIR)/.bytecode

##@ Use
.PHONY: setup demo demo-lm up down
setup: $(READY) ## Install everything into .venv (TORCH=cpu: PyTorch without CUDA; TORCH=cuda: all of it)

$(READY): uv.lock pyproject.toml $(wildcard */*/pyproject.toml)
	@python="$$(sh scripts/find_python.sh)" && "$$python" scripts/setup.py --torch "$(TORCH)" --stamp "$(READY)"

demo: $(READY) ## Run the whole way once on real data: records in, predictions out
	@$(BIN)/python examples/digits/demo.py

demo-lm: $(READY) ## Let a language model learn from a stream while its answers are streamed (fetches 0.1 GB once)
	@$(BIN)/python scripts/lm.py
	@$(BIN)/python examples/assistant/demo.py

up: $(READY) ## Start the platform on this machine
	@$(BIN)/headrace up

down: ## Stop the platform
	@test ! -x $(BIN)/headrace || $(BIN)/headrace down

##@ Develop
.PHONY: test test-quick test-matrix test-cluster test-images test-families test-large test-lm test-upstream test-formats test-stories coverage lint proto docs chart bench bench-gpu bench-advice bench-compression bench-privacy chaos days decisions siege release
test: lint ## Check everything: lint, then every test
	@$(BIN)/pytest --numprocesses $(WORKERS)

test-quick: $(READY) ## Run the unit tests that take no time, within a minute
	@$(BIN)/pytest --numprocesses 2 -m "$(QUICK)"

test-matrix: $(READY) ## Run the unit tests with each Python (PYTHONS="3.11 3.13")
	@$(BIN)/python scripts/matrix.py --torch "$(TORCH)" $(PYTHONS) -- -m "$(UNIT)"

test-cluster: $(READY) ## Try the chart and runs in pods on a real Kubernetes API server (needs Go, etcd and kubectl; 25 min once)
	@$(BIN)/pytest tests/cluster --override-ini python_files="check_*.py"

test-images: $(READY) ## Build images and run them as the chart does (needs buildah, podman, runc; IMAGES="inference ...")
	@$(BIN)/pytest tests/images --override-ini python_files="check_*.py"

test-families: $(READY) ## Train real models that are too heavy for `make test` (fetches 0.1 GB once; ONLY=name of a test)
	@$(BIN)/python scripts/families.py --torch "$(TORCH)"
	@$(BIN)/pytest tests/families --override-ini python_files="check_*.py" -s $(if $(ONLY),-k "$(ONLY)")

test-large: $(READY) ## Take a model of 100 million parameters through all services (PARAMETERS=550000000)
	@PARAMETERS=$(PARAMETERS) $(BIN)/pytest tests/large --override-ini python_files="check_*.py" -s

test-stories: $(READY) ## Tell the longer stories through all services, such as labels that come later (ONLY=name of a test)
	@$(BIN)/pytest tests/e2e --override-ini python_files="check_*.py" -s $(if $(ONLY),-k "$(ONLY)")

test-lm: $(READY) ## Take a language model of 135 million parameters along (fetches 0.1 GB once; ONLY=name of a test)
	@$(BIN)/python scripts/lm.py
	@$(BIN)/pytest tests/lm --override-ini python_files="check_*.py" -s $(if $(ONLY),-k "$(ONLY)")

test-upstream: $(READY) ## Put replicas before a real vLLM, which is killed and changed (fetches 2 GB once; ONLY=name of a test)
	@$(BIN)/python scripts/upstream.py
	@$(BIN)/pytest tests/upstream --override-ini python_files="check_*.py" -s $(if $(ONLY),-k "$(ONLY)")

test-formats: $(READY) ## Fuzz formats, and read foreign producers' records by a real schema registry (fetches 0.1 GB once; ONLY=name of a test)
	@$(BIN)/python scripts/formats.py
	@$(BIN)/pytest tests/formats --override-ini python_files="check_*.py" -s $(if $(ONLY),-k "$(ONLY)")

coverage: $(READY) ## Run the unit tests and list the lines that none of them reached
	@$(BIN)/pytest --numprocesses 2 -m "$(UNIT)" --cov --cov-report term-missing:skip-covered

lint: $(READY) ## Check style, types, contracts and generated files
	@$(BIN)/python scripts/lint.py

proto: $(READY) ## Generate shared/contracts from protos
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/generate_protos.py

docs: $(READY) ## Generate the reference pages, the settings tables and parts of the Helm chart
	@$(BIN)/python scripts/generate_docs.py

chart: $(READY) ## Render the Helm chart's examples
	@$(BIN)/python scripts/render_chart.py

bench: $(READY) ## Measure serving, streaming and training beside others, and print the tables
	@$(BIN)/python -m benchmarks

bench-gpu: $(READY) ## Measure training on a GPU and what it makes, beside the CPU; says so where there is none (RESULTS=FILE)
	@$(BIN)/python -m benchmarks.gpu $(if $(RESULTS),--results "$(RESULTS)")

bench-privacy: $(READY) ## Measure what privacy costs on two tables (three minutes)
	@$(BIN)/python -m benchmarks.privacy

bench-compression: $(READY) ## Measure variants of six models, judge them, and show the frontiers (a quarter of an hour; fetches 0.1 GB once)
	@$(BIN)/python scripts/families.py --torch "$(TORCH)"
	@$(BIN)/python -m benchmarks.compression.frontiers

bench-advice: $(READY) ## Measure what `headrace advise` says beside a search of twenty trials (half an hour)
	@$(BIN)/python -m benchmarks.advice

chaos: $(READY) ## Kill instances, change topics and fill the disk while records flow, then audit (SEED, MINUTES, BACKLOG_GB)
	@$(BIN)/python tests/chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(BACKLOG_GB),--backlog-gb $(BACKLOG_GB))

days: $(READY) ## Stream 90 days by event time, cut one segment a day and learn from the last 30 (DAYS, ROWS, WINDOW)
	@$(BIN)/python tests/days/days.py $(if $(DAYS),--days $(DAYS)) $(if $(ROWS),--rows $(ROWS)) $(if $(WINDOW),--window $(WINDOW))

decisions: $(READY) ## Cut a stream that stays as it is 200 times, and count for how many a version is trained (CUTS, ROWS, SEED)
	@$(BIN)/python tests/decisions/stationary.py $(if $(CUTS),--cuts $(CUTS)) $(if $(ROWS),--rows $(ROWS)) $(if $(SEED),--seed $(SEED))

siege: $(READY) ## Overload inference and attack it with hostile connections, on this machine only (SECONDS)
	@$(BIN)/python tests/siege/siege.py $(if $(SECONDS),--seconds $(SECONDS))

release: $(READY) ## Make wheels, the chart's package and SBOMs in dist; publishes nothing
	@$(BIN)/python scripts/release.py

##@ Help
.PHONY: clean help
clean: down ## Stop the platform; remove the environment, caches and the platform's state
	@rm -rf .venv .tools .bytecode .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage dist

help: ## Show this list
	@awk -f scripts/help.awk $(MAKEFILE_LIST)
