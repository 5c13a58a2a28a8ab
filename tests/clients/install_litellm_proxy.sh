#!/usr/bin/env bash
# Installs the LiteLLM proxy into a virtual environment of its own: install_litellm_proxy.sh VENV [PYTHON]
#
# It pins a web framework and an OpenAI client that are not the guard's.
set -euo pipefail
venv=${1:?where to install}; python=${2:-python3}; version=1.108.7
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --upgrade pip
"$venv/bin/python" -m pip install -q "litellm[proxy]==$version"
"$venv/bin/python" -c 'from importlib.metadata import version; print("installed LiteLLM", version("litellm"))'
