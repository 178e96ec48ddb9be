# make run                  the sandbox: stand-in Flagsmith, relay, stand-in Heap, sample traffic
# make run CONFIG=my.yaml   the relay with your file
# make test                 every check; installs what is missing
# make image                build the image for real and run it as a cluster does; installs what is missing
# make audit                what PyPI knows against the locked versions; needs the network
# make bench                the relay beside a plain proxy, on this machine; writes the figures into docs/performance.md
# make bench-check          exits 1 where a target of the bench is missed
# make faults               every fault on every outbox, an hour; FORM=short: each of them once, in minutes
# make fuzz                 many more examples of what callers, Flagsmith, Heap and YAML files may bring
# make soak                 steady calls for SECONDS=600 at RATE=100 a second, and what the relay takes meanwhile
# make lock                 write requirements/*.txt and the SDKs' lock file anew (ARGS=--upgrade: with the newest versions)
# make chart-schema         write the relay's schema into the chart's, after a change of the YAML's
# make clean                remove what the others made

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: run test audit image bench bench-check faults fuzz soak lock chart-schema clean

VENV := .venv
SDKS := tests/sdk/node_modules/.package-lock.json
PIP_FLAGS := -m pip --disable-pip-version-check --quiet
PIP := $(VENV)/bin/python $(PIP_FLAGS)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

run: $(VENV)/.run
	@exec relay $(if $(CONFIG),run -c "$(CONFIG)",sandbox)

test: $(VENV)/.test $(VENV)/.audit $(SDKS)
	@scripts/system
	ruff check
	ruff format --check
	mypy
	$(VENV)/audit/bin/bandit --quiet --configfile pyproject.toml --recursive relay
	pytest -n auto --maxprocesses 8 --dist loadfile

audit: $(VENV)/.audit
	@for lock in run test audit node; do $(VENV)/audit/bin/pip-audit --strict --disable-pip -r requirements/$$lock.txt; done

image: $(VENV)/.test
	hadolint Dockerfile
	pytest tests/image -m image

bench: $(VENV)/.test
	@exec python -m bench --write $(ARGS)

bench-check: $(VENV)/.test
	@exec python -m bench --check --only comparison --only memory --only start --only drain $(ARGS)

faults: $(VENV)/.test
	@scripts/system
	@exec python -m faults --form $(or $(FORM),long) $(ARGS)

fuzz: $(VENV)/.test
	pytest tests/fuzz tests/config/test_file.py --hypothesis-profile fuzz --timeout 0 $(ARGS)

soak: $(VENV)/.test
	@exec python -m faults.soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(RATE),--rate $(RATE)) $(ARGS)

# The lock tool, uv, is the only thing here that has to be installed by hand: only maintainers need it.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

lock:
	$(LOCK) $(ARGS) --extra redis pyproject.toml requirements/build.in -o requirements/run.txt
	$(LOCK) $(ARGS) --extra redis pyproject.toml requirements/build.in requirements/test.in -o requirements/test.txt
	$(LOCK) $(ARGS) requirements/audit.in -o requirements/audit.txt
	$(LOCK) $(ARGS) requirements/node.in -o requirements/node.txt
	cd tests/sdk && npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved

chart-schema: $(VENV)/.run
	python scripts/chart_schema.py

clean:
	rm -rf $(VENV) tests/sdk/node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Each stamp is remade when what it was made from has changed.
$(VENV)/.made: scripts/venv
	scripts/venv $(VENV)
	touch $@

$(VENV)/.run: $(VENV)/.made requirements/run.txt pyproject.toml
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run requirements/test.txt
	$(PIP) install --require-hashes -r requirements/test.txt
	touch $@

# An environment of their own: what they bring along would change how the relay logs.
$(VENV)/.audit: $(VENV)/.made requirements/audit.txt scripts/venv
	scripts/venv $(VENV)/audit
	$(VENV)/audit/bin/python $(PIP_FLAGS) install --require-hashes -r requirements/audit.txt
	touch $@

$(VENV)/.node: $(VENV)/.made requirements/node.txt scripts/node
	scripts/node $(VENV)
	touch $@

$(SDKS): $(VENV)/.node tests/sdk/package.json tests/sdk/package-lock.json
	cd tests/sdk && npm ci --ignore-scripts --no-audit --no-fund
	touch $@
