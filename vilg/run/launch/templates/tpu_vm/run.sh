#!/usr/bin/env bash
# Trains to the last step: orders what is missing, installs vilg on every host, runs worker.sh there, and starts again after what is no
# fault of the run's: saved on a signal (75), killed (137, 143), ended for a lost peer (134), a lost connection (255), slices taken away.
# A mistake of the user's (2) and any other error end it. Stop it and start it again at any time: the run goes on from its checkpoint.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=settings.sh
. "$here/settings.sh"
log=$(mktemp)
bundle=$(mktemp -d)
trap 'rm -rf "$log" "$bundle"' EXIT
cp "$here/worker.sh" "$bundle/$name.sh"
git -C "$clone" archive --format=tar.gz --output="$bundle/$name.tar.gz" HEAD

attempt() {
  local node code=0 each waiting=()
  for node in "${nodes[@]}"; do
    tpus tpu-vm scp "$bundle/$name.sh" "$bundle/$name.tar.gz" "$node:" --worker=all || return 255
  done
  for node in "${nodes[@]}"; do
    tpus tpu-vm ssh "$node" --worker=all --batch-size=all --command="bash $name.sh" > >(tee -a "$log") 2>&1 &
    waiting+=($!)
  done
  for each in "${waiting[@]}"; do
    wait "$each" || code=$?
  done
  sleep 1 # until tee has written the last lines
  # A process that is refused (2) or fails (1) takes its peers with it, who end with 134: the reason counts, not who ended last.
  for each in 2 1; do
    if grep -q "vilg-worker-exit $each\$" "$log"; then
      return "$each"
    fi
  done
  return "$code"
}

for ((restart = 0; restart <= {{ restarts }}; restart++)); do
  ensure_active
  : >"$log"
  code=0
  attempt || code=$?
  case $code in
    0) echo "$name: finished" >&2 && exit 0 ;;
    2) echo "$name: a mistake in the command or the config, told above" >&2 && exit 2 ;;
    75 | 134 | 137 | 143 | 255) ;;
    *)
      if [ "$(state)" = ACTIVE ]; then
        echo "$name: failed with $code on slices that are still there, told above" >&2
        exit "$code"
      fi
      ;;
  esac
  echo "$name: stopped with $code, starting again" >&2
  sleep "$poll"
done
echo "$name: still not finished after {{ restarts }} restarts" >&2
exit 75
