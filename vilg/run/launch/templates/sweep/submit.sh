#!/usr/bin/env bash
# Submits the {{ tasks | length }} tasks of the sweep as arrays, at most {{ jobs }} at once, and a job that gathers their rows. First come those
# that train a codec for others, then cells by what they start from. Run it in a clone of vilg that all nodes see, with .venv installed.
# Again after failures: what is done is not done again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
after=()
{% for first, last in waves %}
id=$(sbatch --parsable --array={{ first }}-{{ last }}%{{ jobs }} "${after[@]}" "$here/sweep.sbatch")
after=(--dependency="afterok:${id%%;*}" --kill-on-invalid-dep=yes)
{% endfor %}
sbatch "${after[@]}" "$here/sweep.sbatch"
