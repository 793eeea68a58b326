# shellcheck shell=bash
# Sourced by quickstart.sh and test.sh: $venv with vilg and its EXTRAS, made anew only when pyproject.toml has changed.
# $venv is .venv, or .venv-3.12 where PYTHON is a Python 3.12 and .venv has another version.
say() { echo "$*" >&2; }
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

venv=.venv
made=$(version .venv/bin/python) || made=
if [ -n "$made" ] && [ -z "${PYTHON:-}" ]; then
  wanted=$made
else
  python=${PYTHON:-python3}
  wanted=$(version "$python") || { say "PYTHON=$python does not run; set PYTHON to a Python 3.11, 3.12 or 3.13"; exit 2; }
  case $wanted in
    3.11 | 3.12 | 3.13) ;;
    *) say "PYTHON=$python is Python $wanted, and vilg is tested on 3.11, 3.12 and 3.13; set PYTHON to one of them"; exit 2 ;;
  esac
  if [ -n "$made" ] && [ "$made" != "$wanted" ]; then
    venv=.venv-$wanted
    say ".venv has Python $made, so Python $wanted has its own environment, $venv"
    made=$(version "$venv/bin/python") || made=
  fi
  [ "$made" = "$wanted" ] || "$python" -m venv --clear "$venv"
fi

extras=${EXTRAS:-}
stamp="$venv/.vilg-installed${extras//[^a-z]/-}"
if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
  say "installing vilg$extras for Python $wanted into $venv ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$extras"
  touch "$stamp"
fi
