#!/usr/bin/env bash
# Installs garak into a virtual environment of its own: install_garak.sh VENV [PYTHON]
#
# It pins a transformers and an OpenAI client that are not the guard's. torch comes first and pinned: an
# unpinned torch brings gigabytes of CUDA.
set -euo pipefail
venv=${1:?where to install}; python=${2:-python3}; version=0.17.1
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --upgrade pip
"$venv/bin/python" -m pip install -q torch==2.13.0
"$venv/bin/python" -m pip install -q "garak==$version"
"$venv/bin/garak" --version
