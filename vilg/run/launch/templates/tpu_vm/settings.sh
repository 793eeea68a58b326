# What the scripts beside this one share. Written by `vilg launch`; sourced, not run.
# PROJECT, ZONE: of Google Cloud. VILG_CLONE: the clone of vilg whose HEAD is installed (default: the current directory).
# shellcheck shell=bash disable=SC2034
name={{ name | quote }}
project=${PROJECT:?set PROJECT to the Google Cloud project}
zone=${ZONE:?set ZONE to a zone that has {{ slice.accelerator }}}
clone=${VILG_CLONE:-.}
poll=${VILG_POLL:-30} # seconds between looks at the queue, and before a restart
{% if slices > 1 %}
nodes=({% for i in range(slices) %}{{ " " if i }}"$name-{{ i }}"{% endfor %})
{% else %}
nodes=("$name")
{% endif %}

tpus() { gcloud compute tpus "$@" --project="$project" --zone="$zone"; }

state() { tpus queued-resources describe "$name" --format='value(state.state)' 2>/dev/null || true; }

create() {
  tpus queued-resources create "$name" --accelerator-type={{ slice.accelerator }} --runtime-version={{ slice.runtime }} \
    {{ "--node-count=%d --node-prefix=\"$name\"" % slices if slices > 1 else "--node-id=\"$name\"" }}{{ " --spot" if spot }}
}

delete() { tpus queued-resources delete "$name" --force --quiet; }

# Orders the slices, anew if they were taken away, and waits until they are there.
ensure_active() {
  local now failures=0
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return ;;
      "") # never ordered, or gcloud did not answer
        if ! create; then
          failures=$((failures + 1))
          [ "$failures" -lt 10 ] || return 1
          sleep "$poll"
        fi
        ;;
      SUSPENDED | FAILED) delete || sleep "$poll" ;; # what preemption leaves behind
      *) echo "$name: ${now}" >&2 && sleep "$poll" ;;
    esac
  done
}
