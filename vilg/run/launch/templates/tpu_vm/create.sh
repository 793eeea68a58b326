#!/usr/bin/env bash
# Orders {{ slices }} x {{ slice.accelerator }} ({{ slice.shape }}, {{ slice.hosts }} host(s) each) as a queued resource and waits until it is there.
set -euo pipefail
# shellcheck source=settings.sh
. "$(dirname "$0")/settings.sh"
ensure_active
echo "$name is ACTIVE; go on with run.sh" >&2
