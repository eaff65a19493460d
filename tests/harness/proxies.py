"""Runs the real nginx, Caddy and HAProxy in front of daemons, with the example configurations in systemd/.

Only machine-specific settings are replaced: addresses, ports, the host name, the certificate, folders.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import aiohttp
from daemon import ROOT
from programs import need_program

EXAMPLES = ROOT / "systemd"
#: A port of 127.0.0.1, or an address and a port.
Place: TypeAlias = int | str
_UPSTREAM = "127.0.0.1:8000"
_MACHINES = ("10.0.0.1:8000", "10.0.0.2:8000")
#: How long a busy machine may take to start a program, in seconds.
_START_SECONDS = 20.0

#: The main configuration that includes the example's site.
_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A configured proxy; `run` and `check` are the commands to run it and to test its configuration `file`."""

    name: str
    file: Path
    origin: str
    run: tuple[str, ...]
    check: tuple[str, ...]
    environ: Mapping[str, str]


def nginx(folder: Path, upstream_port: Place, other_port: Place | None = None) -> Proxy:
    """Write nginx's configuration for one machine, or for two, into `folder`."""
    program, port = need_program("nginx"), _free_port()
    certificate, key = _certificate(folder)
    live = "/etc/letsencrypt/live/bridge.example.org"
    upstream = (
        dict(zip((_UPSTREAM,), _loopback(upstream_port), strict=True))
        if other_port is None
        else dict(zip(_MACHINES, _loopback(upstream_port, other_port), strict=True))
    )
    site = _adapted(
        (EXAMPLES / ("nginx.conf" if other_port is None else "nginx-machines.conf")).read_text(),
        {
            "listen 80;": f"listen 127.0.0.1:{_free_port()};",
            "listen [::]:80;": "",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "listen [::]:443 ssl http2;": "",
            f"{live}/fullchain.pem": str(certificate),
            f"{live}/privkey.pem": str(key),
            **upstream,
        },
    )
    file = folder / "site.conf"
    file.write_text(site)
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
    run = (program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf"))
    return Proxy("nginx", file, f"https://localhost:{port}", run, (*run, "-t"), {})


def nginx_of_machines(folder: Path, upstream_port: int, other_port: int | None = None) -> Proxy:
    """Write nginx's configuration for two machines; without `other_port` both are the same daemon."""
    return nginx(folder, upstream_port, upstream_port if other_port is None else other_port)


def haproxy(folder: Path, upstream_port: int, other_port: int | None = None) -> Proxy:
    """Write HAProxy's configuration for two machines; without `other_port` both are the same daemon."""
    program, port = need_program("haproxy"), _free_port()
    certificate, key = _certificate(folder)
    both = folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    ports = (upstream_port, upstream_port if other_port is None else other_port)
    text = _adapted(
        (EXAMPLES / "haproxy.cfg").read_text(),
        {
            "bind :80\n": f"bind 127.0.0.1:{_free_port()}\n",
            "bind :443 ssl": f"bind 127.0.0.1:{port} ssl",
            "/etc/haproxy/bridge.example.org.pem": str(both),
            "maxconn 20000": "maxconn 200",  # at the start it needs a limit of two file descriptors for each
            **dict(zip(_MACHINES, _loopback(*ports), strict=True)),
        },
    )
    file = folder / "haproxy.cfg"
    file.write_text(text)
    run = (program, "-db", "-f", str(file))
    return Proxy("haproxy", file, f"https://localhost:{port}", run, (*run, "-c"), {})


def caddy(folder: Path, upstream_port: int) -> Proxy:
    """Write Caddy's configuration into `folder`."""
    program, port = need_program("caddy"), _free_port()
    certificate, key = _certificate(folder)
    site = _adapted(
        (EXAMPLES / "Caddyfile").read_text(),
        {
            "{\n\tservers {": "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers {",
            "bridge.example.org {": f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {certificate} {key}",
            _UPSTREAM: f"127.0.0.1:{upstream_port}",
        },
    )
    file = folder / "Caddyfile"
    file.write_text(site)
    arguments = ("--adapter", "caddyfile", "--config", str(file))
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    return Proxy(
        "caddy",
        file,
        f"https://localhost:{port}",
        (program, "run", *arguments),
        (program, "validate", *arguments),
        homes,
    )


@asynccontextmanager
async def serving(proxy: Proxy, folder: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Run a proxy; the session trusts its certificate and has its origin as base URL."""
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *proxy.run, env={**os.environ, **proxy.environ}, stdout=log, stderr=log
        )
    try:
        await _takes_connections(proxy, process, folder / "log")
        tls = ssl.create_default_context(cafile=folder / "certificate.pem")
        connector = aiohttp.TCPConnector(limit=0, ssl=tls)
        async with aiohttp.ClientSession(proxy.origin, connector=connector) as http:
            yield http
    finally:
        if process.returncode is None:
            process.kill()  # after SIGTERM, Caddy would wait for open streams
        await process.wait()


async def _takes_connections(proxy: Proxy, process: asyncio.subprocess.Process, log: Path) -> None:
    """Poll until it accepts connections, since there is no event for it."""
    port = int(proxy.origin.rpartition(":")[2])
    async with asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                await writer.wait_closed()
                return
    raise AssertionError(f"{proxy.name} has ended: {await asyncio.to_thread(log.read_text)}")


def _loopback(*places: Place) -> list[str]:
    return [place if isinstance(place, str) else f"127.0.0.1:{place}" for place in places]


def _adapted(text: str, replaced: Mapping[str, str]) -> str:
    for old, new in replaced.items():
        assert old in text, f"the example has no {old!r} any more"
        text = text.replace(old, new)
    return text


def _free_port() -> int:
    """A free port below the kernel's ephemeral ports, so that it is not taken before the proxy starts."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = "req -x509 -nodes -days 1 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([need_program("openssl"), *words.split(), *names], check=True, capture_output=True, timeout=30)
    return certificate, key
