#!/usr/bin/env bash
# Installs the contenders into an environment of their own and runs the suites: benchmarks/run.sh [suite ...]
set -euo pipefail
cd "$(dirname "$0")/.."

environment="${BENCH_VENV:-.venv-bench}"
python="$environment/bin/python"

if [ ! -e "$environment/.installed" ] || [ pyproject.toml -nt "$environment/.installed" ]; then
    [ -x "$python" ] || "${PYTHON:-python3}" -m venv "$environment"
    "$python" -m pip install --quiet --upgrade "pip>=25.1"
    "$python" -m pip install --quiet --editable ".[all]" --group bench
    "$python" -m pip freeze --exclude-editable > "$environment/stack.txt"
    # one by one, beside the stack as it is: who does not fit is left out, and the table says so
    "$python" -c '
import tomllib
for peer in tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["peers"]:
    print(peer)
' | while read -r peer; do
        "$python" -m pip install --quiet --constraint "$environment/stack.txt" "$peer" \
            || echo "$peer cannot be installed beside the stack: its table will say so" >&2
    done
    touch "$environment/.installed"
fi

exec "$python" -m benchmarks "$@"
