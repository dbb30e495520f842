"""The reverse proxies of ``packaging/``, run as its files configure them."""

import asyncio
import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
import trustme
from docs_pages import ROOT
from ports import free_ports

PACKAGING = ROOT / "packaging"
PATIENCE = 30.0
HOST = "zone.example"


class Door(NamedTuple):
    """Where a proxy listens."""

    port: int
    tls: ssl.SSLContext | None
    plain: int | None = None
    """The port of plain HTTP, if the other one is for TLS."""

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to it."""
        name = HOST if self.tls else None
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname=name
        )

    async def ask(self, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
        """Return the whole answer to a request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", "Connection: close", *headers]
        return await self.say("\r\n".join([*lines, "", ""]).encode() + body)

    async def say(self, octets: bytes) -> bytes:
        """Return what comes back for these bytes, until the connection ends."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await self.open()
            try:
                writer.write(octets)
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()
                await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def get(self, path: str) -> int:
        """Return the status at a path; 0 if nothing came."""
        answer = await self.ask(path)
        return int(answer.split()[1]) if answer else 0


Proxy: TypeAlias = Callable[[Path, int], AbstractAsyncContextManager[Door]]


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where the program is not installed; in CI the test fails for want of it."""
    missing = shutil.which(program) is None and "D_BACK_CI" not in os.environ
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


@asynccontextmanager
async def nginx(folder: Path, upstream: int, instead: str = "") -> AsyncIterator[Door]:
    """nginx, over TLS; ``instead`` replaces the block of the upstream, if it is given."""
    tls, chain, key = _certified(folder)
    port, plain = free_ports(2)
    site = _filled(
        "nginx.conf",
        ("listen [::]:443 ssl;", ""),
        ("listen [::]:80;", ""),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("listen 80", f"listen 127.0.0.1:{plain}"),
        ("127.0.0.1:3000", f"127.0.0.1:{upstream}"),
        ("/etc/letsencrypt/live/zone.example/fullchain.pem", str(chain)),
        ("/etc/letsencrypt/live/zone.example/privkey.pem", str(key)),
    )
    if instead:
        site = re.sub(
            r"^upstream .*?^}\n", lambda _: instead, site, flags=re.DOTALL | re.MULTILINE
        )
    bodies = "".join(
        f"{kind}_temp_path {folder / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = folder / "nginx.conf"
    whole.write_text(
        f"pid {folder / 'pid'};\ndaemon off;\nmaster_process off;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{bodies}{site}}}\n"
    )
    command = ("nginx", "-e", "stderr", "-p", str(folder), "-c", str(whole))
    async with _running(folder, Door(port, tls, plain), *command) as door:
        yield door


@asynccontextmanager
async def caddy(folder: Path, upstream: int) -> AsyncIterator[Door]:
    """Caddy, without TLS: it would ask a certificate authority."""
    (port,) = free_ports(1)
    site = _filled(
        "Caddyfile",
        ("zone.example {", f"http://zone.example:{port} {{"),
        ("127.0.0.1:3000", f"127.0.0.1:{upstream}"),
    )
    whole = folder / "Caddyfile"
    whole.write_text(f"{{\n\tadmin off\n}}\n{site}")
    command = ("caddy", "run", "--config", str(whole), "--adapter", "caddyfile")
    async with _running(folder, Door(port, None), *command) as door:
        yield door


@asynccontextmanager
async def haproxy(folder: Path, upstream: int) -> AsyncIterator[Door]:
    """HAProxy, over TLS."""
    tls, chain, key = _certified(folder)
    both = folder / "both.pem"
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    port, plain = free_ports(2)
    whole = folder / "haproxy.cfg"
    whole.write_text(
        _filled(
            "haproxy.cfg",
            ("bind :80", f"bind 127.0.0.1:{plain}"),
            ("bind :443", f"bind 127.0.0.1:{port}"),
            ("/etc/haproxy/zone.example.pem", str(both)),
            ("127.0.0.1:3000", f"127.0.0.1:{upstream}"),
        )
    )
    command = ("haproxy", "-db", "-f", str(whole))
    async with _running(folder, Door(port, tls, plain), *command) as door:
        yield door


PROXIES = [
    pytest.param(nginx, id="nginx", marks=needs("nginx")),
    pytest.param(caddy, id="caddy", marks=needs("caddy")),
    pytest.param(haproxy, id="haproxy", marks=needs("haproxy")),
]


def _filled(name: str, *replacements: tuple[str, str]) -> str:
    text = (PACKAGING / name).read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return text


def _certified(folder: Path) -> tuple[ssl.SSLContext, Path, Path]:
    """Who trusts the certificate, and the files of the certificate and its key."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOST)
    chain, key = folder / "chain.pem", folder / "key.pem"
    for pem in issued.cert_chain_pems:
        pem.write_to_path(chain, append=True)
    issued.private_key_pem.write_to_path(key)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    return tls, chain, key


@asynccontextmanager
async def _running(folder: Path, door: Door, *command: str) -> AsyncIterator[Door]:
    """Run a proxy in the foreground; what it says is shown where the test fails."""
    with (folder / "proxy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)}
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _answers(door):
                assert process.returncode is None, "the proxy has ended"
                await asyncio.sleep(0.05)  # it has no event
        yield door
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        print((folder / "proxy.log").read_text())  # noqa: T201  pytest shows it


async def _answers(door: Door) -> bool:
    try:
        return await door.get("/healthz") == 200
    except OSError:
        return False
