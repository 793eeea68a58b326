#!/usr/bin/env bash
# From a bare Python 3.11, 3.12 or 3.13 (PYTHON): makes .venv, installs, and runs the quickstart into runs/quickstart.
# Run it again to go on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
. launch/setup.sh
exec "$venv"/bin/vilg quickstart --config=experiments/quickstart.py --workdir=runs/quickstart "$@"
