#!/bin/sh
# Make (or bring up to date) the virtual environment DIR with orchestrate and its tools: venv.sh DIR
# PYTHON chooses the interpreter. Says what is missing; as root on Debian it installs python3-venv itself.
set -eu
venv=$1
new='import sys; sys.exit(sys.version_info < (3, 11))'

die() { echo "make: $*" >&2; exit 1; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14 /usr/bin/python3}; do
        if "$candidate" -c "$new" 2>/dev/null; then echo "$candidate"; return; fi
    done
    die "no Python 3.11 or newer found${PYTHON:+ as $PYTHON}; install one, or name it: make PYTHON=/path/to/python3"
}

if ! "$venv/bin/python" -c "$new" 2>/dev/null || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        hint="$python has no venv module; as root: apt-get install python3-venv"
        [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "$hint"
        echo "installing Debian's python3-venv"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -o DPkg::Lock::Timeout=600 -qq update &&
            apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends python3-venv; } >/dev/null ||
            die "$hint"
        "$python" -c 'import ensurepip, venv' 2>/dev/null || python=/usr/bin/python3
    fi
    echo "making $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" || die "$python -m venv failed"
fi
echo "installing orchestrate and its tools into $venv (about a minute the first time)"
"$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input -e '.[test]' ||
    die "pip could not install the packages that pyproject.toml names; is a package registry reachable?"
