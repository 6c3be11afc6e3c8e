#!/bin/sh
# Every static check, in the order of what fails fastest. `make lint` and CI call it.
set -eu
bin=.venv/bin
$bin/ruff check --quiet .
$bin/ruff format --quiet --check .
$bin/python tools/gen_proto.py --check
$bin/lint-imports --no-logo
$bin/python tools/tidy.py
$bin/mypy --no-error-summary skerry scheduler control_plane workload_plane tools deploy migrations tests benchmarks
# buf comes from npm, and axe for the dashboard's tests, at the exact versions that package.json names;
# npm's own lock file would leave out the other platforms' binaries and then refuse them.
if { [ ! -x node_modules/.bin/buf ] || [ ! -f node_modules/axe-core/axe.min.js ]; } && command -v npm >/dev/null 2>&1; then
    npm install --no-package-lock --ignore-scripts --silent --no-audit --no-fund || true
fi
if [ -x node_modules/.bin/buf ]; then
    node_modules/.bin/buf lint
    for released in proto/released/*.binpb; do
        node_modules/.bin/buf breaking --against "$released"
    done
else
    echo "SKIPPED: buf lint: npm is missing or could not install it (on Debian: apt-get install npm)" >&2
fi
echo "lint: ok"
