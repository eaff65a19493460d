#!/bin/sh
# Cline's CLI, Continue's CLI, gptme, mini-swe-agent and Qwen Code on the bridge and the embedded arena, unmodified:
# each reads a file and edits it, without any network except loopback. They take 1.6 GB and a minute to install, too much for
# `make test-clients`. Run it from the checkout, on Linux and x86-64, after `make test-clients`, whose Node.js is used.
set -eu
cd "$(dirname "$0")/../.."

environment=.venv-clients/more-agents
if [ ! -e "$environment/.installed" ]; then
    mkdir -p "$environment"
    npm install --prefix "$environment" --ignore-scripts --no-audit --no-fund --loglevel=error \
        @continuedev/cli@1.5.47 @qwen-code/qwen-code@0.15.10 cline@3.0.65
    for package in gptme==0.35.1 mini-swe-agent==2.4.6; do
        .venv/bin/uv venv --quiet --clear --python .venv/bin/python "$environment/${package%==*}"
        .venv/bin/uv pip install --quiet --python "$environment/${package%==*}" "$package"
    done
    touch "$environment/.installed"
fi
# Cline leaves a process behind, which ends with the process namespace.
exec unshare --map-root-user --pid --fork --kill-child --mount-proc \
    .venv/bin/python tests/clients/offline.py .venv/bin/pytest -m clients tests/clients/more_agents.py
