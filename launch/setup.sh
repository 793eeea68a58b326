# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh: .venv with vilg and its EXTRAS, made anew only when pyproject.toml has changed.
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vilg needs Python 3.11 or newer; set PYTHON" >&2; exit 2; }
extras=${EXTRAS:-}
stamp=".venv/.vilg-installed${extras//[^a-z]/-}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  echo "installing vilg$extras into .venv ..." >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".$extras"
  touch "$stamp"
fi
