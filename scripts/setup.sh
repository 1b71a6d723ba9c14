#!/bin/sh
# Makes the virtual environment at $1 (default .venv) with the project, editable, and its dev extra.
# Missing system packages are installed when root and apt-get are there; otherwise one line says what is missing.
set -eu
venv=${1:-.venv}

python=
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: no Python 3.11 or newer found; install python3.11 or set PYTHON" >&2
    exit 1
fi

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
missing=
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python$version-venv"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' \
    || missing="$missing python$version-dev"
command -v cc >/dev/null || command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing$missing"
        # shellcheck disable=SC2086  # a list of words
        { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing; } \
            >"${TMPDIR:-/tmp}/sabot-setup-apt.log" 2>&1 \
            || { echo "setup: could not install$missing; see ${TMPDIR:-/tmp}/sabot-setup-apt.log" >&2; exit 1; }
    else
        echo "setup: missing$missing; install with: sudo apt-get install$missing" >&2
        exit 1
    fi
fi

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi
echo "installing the project and its tools into $venv"
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install "setuptools>=77" "wheel>=0.45" "cython>=3.3,<3.4"
# compat: a plain path entry, which starts faster than an import hook and which type checkers read
$pip install --no-build-isolation --config-settings editable_mode=compat --constraint constraints.txt --editable ".[dev]"
