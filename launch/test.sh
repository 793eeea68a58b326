#!/usr/bin/env bash
# From a bare Python 3.11: makes .venv, installs with the dev extra, checks style, types and imports, and runs the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS="[dev]"
. launch/setup.sh
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}  # as `vilg` itself does: vilg/run/terminal/huge_pages.py
.venv/bin/ruff check vilg experiments tests
.venv/bin/ruff format --check --quiet vilg experiments tests
.venv/bin/lint-imports
.venv/bin/pyright
exec .venv/bin/pytest -n 2 --dist worksteal "$@"
