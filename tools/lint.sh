#!/bin/sh
# Every static check, in the order of what fails fastest. `make lint` and CI call it.
set -eu
bin=.venv/bin
$bin/ruff check --quiet .
$bin/ruff format --quiet --check .
$bin/python tools/gen_proto.py --check
$bin/lint-imports --no-logo 2>/dev/null | tail -n 12
$bin/lint-imports --no-logo >/dev/null
$bin/python tools/tidy.py
$bin/mypy --no-error-summary skerry scheduler control_plane workload_plane tools migrations tests
if command -v npm >/dev/null 2>&1; then
    [ -x node_modules/.bin/buf ] || npm ci --silent --no-audit --no-fund
    node_modules/.bin/buf lint
else
    echo "SKIPPED: buf lint (npm is not installed; on Debian: apt-get install npm)" >&2
fi
echo "lint: ok"
