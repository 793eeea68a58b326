#!/usr/bin/env bash
# Gives the slices back. The run stays in {{ workdir }}.
set -euo pipefail
# shellcheck source=settings.sh
. "$(dirname "$0")/settings.sh"
delete
