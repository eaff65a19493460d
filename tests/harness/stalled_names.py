"""Simulates a DNS server that does not answer: in processes started with it, lookups of some names stall, then fail."""

from __future__ import annotations

import sys

#: The suffix of names whose lookups stall.
SUFFIX = ".stalled.test"

_PROGRAM = """
import runpy, socket, sys, time
real = socket.getaddrinfo
def getaddrinfo(host, *args, **kwargs):
    if str(host).endswith({suffix!r}):
        time.sleep({seconds!r})
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return real(host, *args, **kwargs)
socket.getaddrinfo = getaddrinfo
sys.argv[0] = "lmarena-bridge"
runpy.run_module("bridge", run_name="__main__", alter_sys=True)
"""


def program(seconds: float) -> tuple[str, ...]:
    """The command line that starts a bridge whose lookups of these names stall for `seconds`."""
    return (sys.executable, "-c", _PROGRAM.format(suffix=SUFFIX, seconds=seconds))
