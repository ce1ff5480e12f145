#!/bin/sh
# Build the wheel and install it, with what the lock says it needs, into an environment of its own.
# usage: build.sh SOURCE PREFIX
set -eu
source=$1
prefix=$2
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    python3 -m venv "$tools/uv"
    "$tools/uv/bin/pip" install --quiet --no-cache-dir 'uv>=0.8'
    uv=$tools/uv/bin/uv
fi

# files, not links into a cache that the image leaves behind; compiled, for the image is read-only
export UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never
UV_PROJECT_ENVIRONMENT=$prefix "$uv" sync --project "$source" --locked --no-dev --all-extras --no-install-project
"$uv" build --quiet --wheel --out-dir "$tools/dist" "$source"
"$uv" pip install --python "$prefix/bin/python" --no-deps "$tools"/dist/asynchub-*.whl
