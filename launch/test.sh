#!/usr/bin/env bash
# From a bare Python 3.11, 3.12 or 3.13 (PYTHON): makes .venv, installs with the dev extra, checks style, types and imports, and runs the tests.
# With --fast: types of the files that differ from main, and the tests that belong to them. Other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS="[dev]"
. launch/setup.sh
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}  # as `vilg` itself does: vilg/run/terminal/huge_pages.py
typed=()
tests=()
if [ "${1:-}" = "--fast" ]; then
  shift
  mapfile -t typed < <("$venv/bin/python" -m tests.changed typed)
  mapfile -t tests < <("$venv/bin/python" -m tests.changed tests)
  echo "types of ${#typed[@]} changed files; tests: ${tests[*]}" >&2
  fast=1
fi
"$venv/bin/ruff" check vilg experiments tests
"$venv/bin/ruff" format --check --quiet vilg experiments tests
"$venv/bin/lint-imports"
if [ -z "${fast:-}" ] || [ "${#typed[@]}" -gt 0 ]; then "$venv/bin/pyright" --pythonpath "$venv/bin/python" "${typed[@]}"; fi
exec "$venv/bin/pytest" -n 2 --dist worksteal "${tests[@]}" "$@"
