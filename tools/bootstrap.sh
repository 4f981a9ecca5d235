#!/usr/bin/env bash
# Makes .venv/ from requirements.lock, or brings it up to date; does nothing when it is.
#
# PYTHON names the interpreter to build it with; by default the first on PATH that is new enough.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.venv
stamp=$venv/.stamp
oldest="3.11"

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if new_enough "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  echo "Python $oldest or newer is needed; python3 here is: $(python3 --version 2>&1 || true)" >&2
  echo "Install one, or name one: make PYTHON=/path/to/python3" >&2
  return 1
}

# Scripts in a venv name its path, so a moved project needs a new one.
key() {
  "$1" - "$PWD" requirements.lock pyproject.toml tools/bootstrap.sh <<'PY'
import hashlib, pathlib, sys

root, *files = sys.argv[1:]
digest = hashlib.sha256()
for name in files:
    digest.update(pathlib.Path(name).read_bytes())
print(root, digest.hexdigest())
PY
}

# Prints what the command said only if it failed.
quietly() {
  local said
  said=$(mktemp)
  if ! "$@" >"$said" 2>&1; then
    cat "$said" >&2
    rm -f "$said"
    echo "failed: $*" >&2
    return 1
  fi
  rm -f "$said"
}

# Some distributions ship Python without ensurepip; the pip beside it can fill the venv as well.
make_venv() {
  if "$1" -m venv --clear "$venv" >/dev/null 2>&1; then
    return
  fi
  quietly "$1" -m venv --clear --without-pip "$venv"
  quietly "$1" -m pip --python "$venv/bin/python" install pip
}

# uv needs seconds where pip needs minutes, but knows nothing of pip's settings: where it cannot reach
# any packages (a mirror, a folder of wheels), pip does it all.
install_quickly() {
  local uv_alone
  uv_alone=$(mktemp)
  awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements.lock >"$uv_alone"
  if "${pip[@]}" --require-hashes -r "$uv_alone" >/dev/null 2>&1 \
    && UV_HTTP_TIMEOUT=20 UV_HTTP_RETRIES=1 "$venv/bin/uv" pip install --quiet \
      --python "$venv/bin/python" --require-hashes -r requirements.lock >/dev/null 2>&1; then
    rm -f "$uv_alone"
    return
  fi
  rm -f "$uv_alone"
  return 1
}

if [[ -x $venv/bin/python && -f $stamp ]] && new_enough "$venv/bin/python" \
  && [[ $(<"$stamp") == "$(key "$venv/bin/python")" ]]; then
  exit 0
fi

python=$(find_python)
echo "preparing $venv with $("$python" --version) (a minute or two the first time)" >&2
built_for=$([[ -f $stamp ]] && cat "$stamp" || true)
if [[ ${built_for% *} != "$PWD" ]] || ! new_enough "$venv/bin/python"; then
  make_venv "$python"
fi
echo "$PWD unfinished" >"$stamp"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet)
if ! install_quickly; then
  quietly "${pip[@]}" --no-compile --require-hashes -r requirements.lock
fi
quietly "${pip[@]}" --no-deps --no-build-isolation -e .
key "$venv/bin/python" >"$stamp"
