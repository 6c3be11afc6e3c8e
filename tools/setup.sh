#!/bin/sh
# Makes .venv from requirements.lock; called by make when the lock or pyproject.toml is newer.
set -eu
UV_VERSION=0.13.9 # the installer; pinned like everything else
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 12)))' || {
    echo "Skerry needs CPython 3.11 or 3.12; found $("$python" --version). Try: make PYTHON=python3.11" >&2
    exit 1
}
if [ ! -x .venv/bin/python ]; then
    "$python" -m venv .venv || {
        echo "python3 -m venv failed. On Debian: apt-get install python3-venv" >&2
        exit 1
    }
fi
if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi
echo "installing what requirements.lock names into .venv"
.venv/bin/uv pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation --python .venv/bin/python --editable .
# Else the first large fleet would wait for the compiler; a second where all is compiled already.
echo "compiling the scheduler's inner loops: a minute or two, once for each version of them"
.venv/bin/python -m scheduler.warmup
touch .venv/.ready
