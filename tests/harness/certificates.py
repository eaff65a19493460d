"""Makes a server certificate for a test."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from programs import need_program


def server_context(folder: Path) -> ssl.SSLContext:
    """A TLS context for `localhost`, whose certificate and key are in `folder`."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run([need_program("openssl"), "req", *kind, *files], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
