#!/bin/sh
# The whole suite in three parts; `make test` and CI call it. docs/contributing/tests.md says why.
set -eu
# The dashboard is tested in Debian's Chromium; without it those tests skip, and say so.
if ! command -v chromium >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 ||
        echo "SKIPPED: the dashboard's tests: chromium could not be installed (apt-get install chromium)" >&2
fi
# Alert rules and dashboards are checked by Debian's promtool, which is unpacked and not installed:
# the package would start a Prometheus.
PATH="$PWD/build/promtool/usr/bin:$PATH"
if ! command -v promtool >/dev/null 2>&1; then
    mkdir -p build/promtool
    { (cd build/promtool && apt-get download -qq prometheus) && dpkg -x build/promtool/prometheus_*.deb build/promtool; } \
        >/dev/null 2>&1 || echo "SKIPPED: promtool's look at alerts and dashboards: it could not be fetched (Debian's prometheus)" >&2
fi
echo 'NO COMPOSE FLEET IS TESTED HERE: only `make test-compose` starts a Docker engine' >&2
cores=$(.venv/bin/python -c 'import os; print(min(8, len(os.sched_getaffinity(0))))')
# What computes gets a worker per core. `make lint` went before and has run tests/tidy's rules.
.venv/bin/python -m pytest -n "$cores" --dist worksteal --ignore=tests/tidy \
    -m "not integration and not slow and not postgres"
# What computes for long, asks a database, or only listens on loopback: nothing in it bounds how long
# something takes. A group's tests stay on one worker (tests/conftest.py): there is one PostgreSQL.
.venv/bin/python -m pytest -n "$cores" --dist loadgroup --ignore=tests/tidy \
    -m "(slow or postgres or integration) and not alone"
# Processes, one after another: beside one another those that bound how long something takes saw the
# other tests: with three workers on two cores (load 21) many failed, with two 1 of 1,527 in 22 min.
.venv/bin/python -m pytest -n 0 --ignore=tests/tidy -m alone
