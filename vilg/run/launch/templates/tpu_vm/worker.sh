#!/usr/bin/env bash
# Runs on every host of every slice: installs what run.sh sent and trains. JAX finds the other hosts by the metadata of the TPU VM.
set -uo pipefail
cd "$HOME" || exit 1
name={{ name | quote }}
export PATH="$HOME/.local/bin:$PATH"

# What a lost connection has left running still holds the chips.
if [ -s "$name.pid" ] && kill -TERM "$(cat "$name.pid")" 2>/dev/null; then
  for _ in $(seq 120); do
    kill -0 "$(cat "$name.pid")" 2>/dev/null || break
    sleep 1
  done
fi

install() {
  local sum
  sum=$(sha256sum "$name.tar.gz" | cut -d' ' -f1)
  [ "$(cat "$name/.installed" 2>/dev/null)" = "$sum" ] && return
  rm -rf "$name" && mkdir "$name" && tar -xzf "$name.tar.gz" -C "$name" || return
  command -v uv >/dev/null || python3 -m pip install --user --quiet uv || return
  uv venv --quiet --python '>=3.11,<3.14' "$name/.venv" || return # the images have Python 3.10
  uv pip install --quiet --python "$name/.venv/bin/python" "./${name}[tpu]" || return
  echo "$sum" >"$name/.installed"
}

code=255 # a registry that does not answer is tried again
if install >&2; then
  cd "$name" || exit 1
{% for variable, value in environment.items() %}
  export {{ variable }}={{ value | quote }}
{% endfor %}
  .venv/bin/{{ command | command }} &
  echo $! >"$HOME/$name.pid"
  trap 'kill -TERM "$(cat "$HOME/$name.pid")"' TERM INT
  wait $!
  code=$?
  while kill -0 "$(cat "$HOME/$name.pid")" 2>/dev/null; do # a signal ends `wait` early; the run is saving
    wait "$(cat "$HOME/$name.pid")"
    code=$?
  done
  rm -f "$HOME/$name.pid"
fi
echo "vilg-worker-exit $code"
exit "$code"
