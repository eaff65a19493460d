#!/bin/sh
# Open WebUI as a real server and in a real browser, on the bridge and the embedded arena: takes 3 GB and some minutes.
# It takes too long for `make test-clients`. Run it from the checkout, after `make .venv/.test`;
# Chromium must be installed. open_webui.py has the checks.
set -eu
cd "$(dirname "$0")/../.."

environment=.venv-clients/open-webui
if [ ! -e "$environment/.installed" ]; then
    .venv/bin/uv venv --quiet --clear --python .venv/bin/python "$environment"
    # shellcheck disable=SC2086 # UV_OPTIONS is a list of words, such as --find-links FOLDER --override FILE
    .venv/bin/uv pip install --quiet --python "$environment" ${UV_OPTIONS:-} open-webui
    touch "$environment/.installed"
fi
PYTHONPATH=.:tests/harness exec .venv/bin/python tests/clients/offline.py \
    .venv/bin/python tests/clients/open_webui.py "$environment/bin/open-webui"
