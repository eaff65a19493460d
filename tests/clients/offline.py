"""Run a command without any network except loopback, so that no client can phone home: `offline.py COMMAND…`.

This needs root on Linux. Otherwise the command runs with the network unchanged, and standard error says so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from typing import Final

_CLONE_NEWNET: Final = 0x40000000  # unshare(2)
_SIOCSIFFLAGS: Final = 0x8914  # netdevice(7)
_IFF_UP: Final = 1


def main() -> None:
    """Leave the network, and execute the command."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    else:
        reason = os.strerror(ctypes.get_errno())
        sys.stderr.write(f"The network stays as it is ({reason}): clients that phone home are not found out.\n")
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  what the command line says


if __name__ == "__main__":
    main()
