#!/bin/sh
# The whole suite in two parts; `make test` and CI call it. docs/contributing/tests.md says why.
set -eu
cores=$(.venv/bin/python -c 'import os; print(min(8, len(os.sched_getaffinity(0))))')
# What computes gets a worker per core. `make lint` went before and has run tests/tidy's rules.
.venv/bin/python -m pytest -n "$cores" --dist worksteal --ignore=tests/tidy \
    -m "not integration and not slow and not postgres"
# What waits for processes leaves the cores half idle; more than one worker more and those that
# watch how long something takes would see the other tests.
.venv/bin/python -m pytest -n $((cores + 1)) --dist loadgroup --no-loadscope-reorder --ignore=tests/tidy \
    -m "integration or slow or postgres"
