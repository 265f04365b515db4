# Targets: `make help`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

INVENTORY ?= inventories/local
ARGS ?=
# the first Python >= 3.11 found
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
BIN := .venv/bin
COLLECTION := .build/ansible_collections/modelship/core
PLAYBOOK := $(BIN)/ansible-playbook -i $(INVENTORY)

export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14
	@echo; echo 'INVENTORY=inventories/… chooses the environment, ARGS="-e name=value --tags …" goes to ansible-playbook.'

# --- set-up -------------------------------------------------------------------------------------------------------

.venv/controller: requirements/controller.txt
	@[ -n "$(PYTHON)" ] || { echo 'Python 3.11 or later is needed: install it, or name it with PYTHON=…'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -q && apt-get install -qy python3-venv; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/controller.txt
	@touch $@

.venv/dev: .venv/controller requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(COLLECTION):
	@mkdir -p $(dir $(COLLECTION))
	@ln -sfn ../../.. $(COLLECTION)

.PHONY: setup
setup: .venv/controller $(COLLECTION) ## the virtual environment and the importable collection

# --- the line -----------------------------------------------------------------------------------------------------

.PHONY: site check provision release deploy destroy
site: setup ## from the model's source to a verified endpoint
	$(PLAYBOOK) playbooks/site.yml $(ARGS)

check: setup ## what `make site` would change, and why; changes nothing
	$(PLAYBOOK) playbooks/site.yml --check --diff $(ARGS)

provision: setup ## only the machine: Docker, registry, trainer, Prometheus
	$(PLAYBOOK) playbooks/provision.yml $(ARGS)

release: setup ## only train, compress, evaluate, build, push
	$(PLAYBOOK) playbooks/release.yml $(ARGS)

deploy: setup ## only deploy and verify the newest release
	$(PLAYBOOK) playbooks/deploy.yml $(ARGS)

destroy: setup ## remove what the collection made, and only that
	$(PLAYBOOK) playbooks/destroy.yml $(ARGS)

# --- test cluster -------------------------------------------------------------------------------------------------

.PHONY: cluster cluster-down
cluster: setup ## a Kubernetes cluster on this machine to test on (tests/cluster/README.md)
	@$(BIN)/python -m tests.cluster up

# what the cluster is built of, so that no test's time is spent on it; without Go the tests on it are skipped
.PHONY: cluster-programs
cluster-programs: stand
	@if command -v go >/dev/null; then $(BIN)/python -m tests.cluster build; fi

cluster-down: ## remove the test cluster; what it was built of stays in the user's cache
	@$(PYTHON) -m tests.cluster down

# --- checks -------------------------------------------------------------------------------------------------------

.PHONY: test test-all checks lint sanity unit integration bench soak lock clean stand
test: checks ## what CI runs: lint, sanity, unit and integration tests but the long ones
	$(call with_stand,-m pytest -n 2 --no-loadscope-reorder -m 'not long')
	@echo 'Not run here: the tests marked long (hosts with systemd, several hosts, many estimators): make test-all'

test-all: checks ## everything that is tested, the long tests too
	$(call with_stand,-m pytest -n 2 --no-loadscope-reorder)

checks:
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint sanity cluster-programs

lint: .venv/dev $(COLLECTION) ## ruff, mypy, ansible-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/sanity/role_docs.py --check
	$(BIN)/ansible-lint --offline --profile production

sanity: .venv/dev ## ansible-test sanity on the built collection
	@mkdir -p .cache/sanity
	$(BIN)/ansible-galaxy collection build --force --output-path .cache/sanity .
	$(BIN)/python tests/sanity/run.py .cache/sanity/modelship-core-*.tar.gz .cache/sanity

unit: .venv/dev ## fast tests only
	$(BIN)/python -m pytest tests/unit

integration: stand ## the tests with real servers only
	$(call with_stand,-m pytest tests/integration)

# what the integration tests and the benchmark stand on: a Docker Engine (the one that runs, or one of our own) and a trainer
STAND := $(CURDIR)/.cache/stand
export MODELSHIP_TRAINER_PYTHON := $(STAND)/trainer/venv/bin/python
stand: .venv/dev $(COLLECTION)
	$(BIN)/ansible-playbook -i inventories/local tests/integration/setup.yml -e modelship_home=$(STAND)

# runs Python with these arguments, and stops in any case what the stand started
define with_stand
	@status=0; $(BIN)/python $(1) || status=$$?; \
	$(BIN)/ansible-playbook -i inventories/local tests/integration/setup.yml -e modelship_home=$(STAND) -e state=absent \
		>$(STAND)/stopped.log 2>&1 || cat $(STAND)/stopped.log; exit $$status
endef

bench: stand ## figures side by side: serving, image, cold start, rebuild, no-change run, Kubernetes
	$(call with_stand,-m tests.bench)

soak: export PYTHONPATH := $(CURDIR)/model/src
soak: stand ## the serving runtime for long: memory over a million requests, twice the load it can take, killed workers
	$(call with_stand,-m tests.soak $(ARGS))

lock: ## resolve the lock files anew (needs uv)
	for name in requirements/{controller,dev,bench}; do $(LOCK) $$name.in -o $$name.txt; done
	for name in requirements/bench-serving-{bentoml,fastapi,flask,granian,litserve,mlserver}; do $(LOCK) --no-annotate $$name.in -o $$name.txt; done
	cd requirements && $(LOCK) --no-annotate --no-deps bench-kubernetes.in -o bench-kubernetes.txt
	cd model/locks && $(LOCK) --no-annotate trainer.in -o trainer.txt
	# the serving locks name every package, because their declared dependencies are not all needed
	cd model/locks && for name in serving-{litert,onnx}; do $(LOCK) --no-annotate --no-deps $$name.in -o $$name.txt; done

LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

clean: ## remove what these targets made in this folder
	rm -rf .venv .build .cache
