#!/bin/sh
# The whole suite in two parts; `make test` and CI call it. docs/contributing/tests.md says why.
set -eu
cores=$(.venv/bin/python -c 'import os; print(min(8, len(os.sched_getaffinity(0))))')
# What computes gets a worker per core. `make lint` went before and has run tests/tidy's rules.
.venv/bin/python -m pytest -n "$cores" --dist worksteal --ignore=tests/tidy \
    -m "not integration and not slow and not postgres"
# One after another: with three workers on two cores those that bound how long something takes saw
# the other tests (load 21, failures).
.venv/bin/python -m pytest -n 0 --ignore=tests/tidy -m "integration or slow or postgres"
