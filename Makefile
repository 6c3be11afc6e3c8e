# Everything a person does here; `make` prints this list. No root, no Docker, but for `test-compose`.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Set in many images; without compiled modules every process that a test starts compiles all again.
unexport PYTHONDONTWRITEBYTECODE

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): requirements.lock pyproject.toml
	@PYTHON=$(PYTHON) sh tools/setup.sh

setup: $(READY) ## make .venv from the lock file

demo: $(READY) ## one machine, three planes, a real model; kill things; KEEP=1 leaves it up
	@$(BIN)/python -m skerry.cli.demo

test: $(READY) lint ## everything: lint, unit, properties, contracts, store, integration
	@sh tools/test.sh

test-faults: $(READY) ## parts of a real fleet broken under load, 20 minutes -> docs/reliability.md
	@SKERRY_FAULTS_RATE=$${SKERRY_FAULTS_RATE:-40} SKERRY_FAULTS_RESULTS=$(CURDIR)/benchmarks/results/reliability.json \
	  $(BIN)/python -m pytest -m "faults or faults_full" tests/faults && PYTHONPATH=. $(BIN)/python tools/gen_reliability.py

soak: $(READY) ## an hour without a control plane, 1,000 pauses of a leader, 10,000 kills; SECONDS=300 PAUSES=20 KILLS=500 for less
	@nice $(BIN)/python -m tests.faults.soak --seconds $(or $(SECONDS),3600) --pauses $(or $(PAUSES),1000) --kills $(or $(KILLS),10000); \
	  code=$$?; PYTHONPATH=. $(BIN)/python tools/gen_reliability.py && exit $$code

soak-certificates: $(READY) ## certificates of 60 s, renewed for SECONDS=600 at RATE=200 requests a second -> docs/reliability.md
	@nice $(BIN)/python -m tests.faults.soak_certificates --seconds $(or $(SECONDS),600) --rate $(or $(RATE),200); \
	  code=$$?; PYTHONPATH=. $(BIN)/python tools/gen_reliability.py && exit $$code

fuzz: $(READY) ## seeded nonsense at every listener -> docs/benchmarks/fuzz.md; INPUTS=100000 SEED=7 LISTENER=NAME FROM=N
	@$(BIN)/python -m tests.fuzz.run --inputs $(or $(INPUTS),100000) --seed $(or $(SEED),7) \
	  --listener "$(LISTENER)" --from $(or $(FROM),0)

test-ray: $(READY) ## Ray under a plane, with its parts killed; 20 minutes, two nodes on this host
	@SKERRY_RAY_RESULTS=$(CURDIR)/benchmarks/results/ray.json $(BIN)/python -m pytest -s -m "ray or ray_faults"

test-unit: $(READY) ## the pure tests, under 30 seconds
	@SKERRY_PROPERTY_EXAMPLES=$${SKERRY_PROPERTY_EXAMPLES:-8} $(BIN)/python -m pytest -n 2 --dist worksteal \
	  tests/unit tests/properties tests/wire -m "not integration and not slow"

test-foreign: $(READY) ## Dynamo and SMG in front of a replica; fetches it into .venv-foreign/
	@$(BIN)/python -m pytest -m foreign tests/foreign

test-engines: $(READY) ## golden command lines through vLLM's and SGLang's own parsers; installs 3 GB
	@$(BIN)/python -m pytest tests/engines -m engines

test-compose: $(READY) ## the fleet of docker-compose.yml built, started, broken; needs Docker, or root on Debian to start one
	@mkdir -p build/compose && $(BIN)/python -m pytest -s -n 0 -m compose tests/compose

lint: $(READY) ## ruff, mypy --strict, import contracts, generated code, buf, house rules
	@sh tools/lint.sh

fmt: $(READY) ## format the code
	@$(BIN)/ruff check --fix-only -q . && $(BIN)/ruff format -q .

proto: $(READY) ## regenerate skerry/api from proto/
	@$(BIN)/python tools/gen_proto.py

reference: $(READY) ## docs/reference from the API's and the command line's definitions
	@PYTHONPATH=. $(BIN)/python tools/gen_reference.py

sim: $(READY) ## the seeded simulation on all cores: SEEDS=10000; SKERRY_SEED=7 replays one
	@$(BIN)/python -m tests.simulation.run --seeds $(or $(SEEDS),1000) $(if $(SKERRY_SEED),--seed $(SKERRY_SEED))

bench: $(READY) ## benchmarks/bench_*.py -> benchmarks/results/*.json
	@for file in benchmarks/bench_*.py; do PYTHONPATH=. $(BIN)/python $$file || exit 1; done

bench-scheduler: $(READY) ## the scheduler's sizes beside three other methods -> docs/benchmarks/scheduler.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_scheduler.py

bench-openb: $(READY) ## the openb trace onto nodes, online -> docs/benchmarks/openb.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_openb.py

bench-store: $(READY) ## the capacity database on both dialects -> docs/benchmarks/store.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_store.py

bench-simulated: $(READY) ## the simulated engine on one core -> docs/benchmarks/simulated.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_simulated.py

bench-link: $(READY) ## PLANES=5000 on one control plane, and their return -> docs/benchmarks/link.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_link.py

bench-routing: $(READY) ## a real trace through the picker beside six other rules; TRACE=FILE -> docs/benchmarks/routing.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_routing.py $(if $(TRACE),--trace $(TRACE))

bench-autoscaling: $(READY) ## days of real load through our autoscaler and others' rules -> docs/benchmarks/autoscaling.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_autoscaling.py

bench-gateway: $(READY) ## ours beside plain Envoy and five other gateways -> docs/benchmarks/gateway.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_gateway.py

bench-relay: $(READY) ## what a continued stream's event costs, and the gateway with and without -> docs/benchmarks/relay.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_relay.py

bench-tracing: $(READY) ## gateway and replica with 0, 1 and 100 % of requests traced -> docs/benchmarks/tracing.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_tracing.py

images: $(READY) ## a picture of each page of the dashboard -> docs/images
	@mkdir -p docs/images && SKERRY_DASHBOARD_IMAGES=$(CURDIR)/docs/images $(BIN)/python -m pytest -n 0 tests/integration/test_dashboard.py

bench-dashboard: $(READY) ## first paint of the dashboard's pages, 1,000 planes x 2,000 deployments -> docs/benchmarks/dashboard.md
	@PYTHONPATH=. $(BIN)/python benchmarks/bench_dashboard.py

migrate: $(READY) ## upgrade the database named by SKERRY_DATABASE_URL
	@$(BIN)/python -m control_plane.store.schema

sbom: $(READY) ## every locked package with version, hashes and licence, as CycloneDX -> build/sbom.json
	@PYTHONPATH=. $(BIN)/python tools/gen_sbom.py

lock: $(READY) ## resolve pyproject.toml into requirements.lock again
	@$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --python-version 3.11 --extra control --extra plane --extra dev pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 \
	  --extra control --extra plane --extra build --no-emit-package ray -c requirements.lock pyproject.toml -o deploy/image.lock

.PHONY: help setup demo test test-faults soak soak-certificates fuzz test-ray test-unit test-engines test-foreign test-compose lint sim fmt proto reference images bench bench-scheduler bench-openb bench-store bench-simulated bench-link bench-routing bench-autoscaling bench-gateway bench-relay bench-tracing bench-dashboard migrate sbom lock
