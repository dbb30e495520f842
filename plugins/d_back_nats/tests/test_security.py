"""Logins, permissions and TLS, with the configuration of the documentation."""

from __future__ import annotations

import base64
import json
import os
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import nats.js.errors
import nkeys  # type: ignore[import-untyped]
import pytest
import trustme
from msgspec import structs
from nats.errors import Error as ClientError
from nats_nodes import (
    ADA,
    BOB,
    LOG,
    PASSWORDS,
    NatsCluster,
    flushed,
    guide_users,
    provider_of,
    unwritten,
)

from d_back_core import Credentials, Secret, Server, UserChanged, WatchedFile
from d_back_nats import NatsConfig, NatsTls
from d_back_nats.connection import CLOSED, connected
from d_back_nats.failure import LOGIN, NatsError
from d_back_testing import ScriptedProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from conftest import Join, Origin, Serve, Until

    from d_back_nats.connection import Line

    Lines = Callable[[NatsConfig], Awaitable[Line]]

ORIGIN: dict[str, Any] = {"user": "origin", "password": PASSWORDS["ORIGIN_PASSWORD"]}
EDGE: dict[str, Any] = {
    "user": "edge",
    "password": PASSWORDS["EDGE_PASSWORD"],
    "inbox": "_INBOX_edge",
}


def town() -> ScriptedProvider:
    return ScriptedProvider({"1": Server(name="Plaza", id="plaza")}, {"1": {"7": ADA, "8": BOB}})


@asynccontextmanager
async def running(
    folder: Path,
    conf: str,
    config: Callable[[NatsCluster], NatsConfig] | None = None,
    *,
    whole: bool = True,
) -> AsyncIterator[NatsCluster]:
    """A server with that configuration."""
    cluster = NatsCluster(folder, 1, conf)
    cluster.start()
    try:
        await cluster.up(None if config is None else config(cluster), whole=whole)
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
async def cluster(folder: Path) -> AsyncIterator[NatsCluster]:
    """A server with the users of the documentation."""
    as_origin = partial(config_of, **ORIGIN)
    async with running(folder, guide_users(), as_origin, whole=False) as cluster:
        yield cluster


def config_of(cluster: NatsCluster, user: str, password: str, inbox: str = "_INBOX") -> NatsConfig:
    return NatsConfig(urls=cluster.urls, user=user, password=Secret(password), inbox=inbox)


async def test_the_permissions_of_the_documentation_suffice(
    cluster: NatsCluster,
    origin: Origin,
    serve: Serve,
    join: Join,
    until: Until,
    *,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With them everything works: the bucket, reading, changes, chat, joins, a standby."""
    source = town()
    policy = {"1": {"password": "open sesame"}}
    server = await origin(cluster, source, servers=policy, lease="2s", **ORIGIN)
    edge = await serve(cluster, **EDGE)
    world = await join(edge, "1", password="open sesame")
    source.emit(UserChanged(server_id="1", uid="7", status="dnd"))
    await world.until(lambda w: w.users["7"].status == "dnd")
    standby = await origin(cluster, source, servers=policy, lease="2s", wait=False, **ORIGIN)
    await server.stop()
    await until(lambda: unwritten(standby) == 0)
    right = Credentials(password="open sesame")
    await until(lambda: provider_of(edge).authorize("1", right, "192.0.2.7"))
    assert "Permissions Violation" not in caplog.text


async def test_an_edge_can_write_nothing(
    cluster: NatsCluster, origin: Origin, lines: Lines
) -> None:
    """With an edge's login no key can be written or deleted, and no question be read."""
    await origin(cluster, town(), **ORIGIN)
    edge = await lines(config_of(cluster, **EDGE))
    before = (await edge.js.stream_info("KV_d-back")).state.last_seq
    for key in ("users.1.7", "servers.1", "origin"):
        with pytest.raises((ClientError, nats.js.errors.Error)):
            await edge.js.publish(f"$KV.d-back.{key}", b"{}", timeout=0.3)
    with pytest.raises((ClientError, nats.js.errors.Error)):
        await edge.client.request("$JS.API.STREAM.PURGE.KV_d-back", b"", timeout=0.3)
    with pytest.raises((ClientError, nats.js.errors.Error)):
        await edge.client.request("$JS.API.STREAM.DELETE.KV_d-back", b"", timeout=0.3)
    assert (await edge.js.stream_info("KV_d-back")).state.last_seq == before
    heard: list[object] = []

    async def note(message: object) -> None:
        heard.append(message)

    await edge.client.subscribe("d-back.d-back.authorize", cb=note)
    await flushed(edge)
    other = await lines(config_of(cluster, **EDGE))
    await other.client.publish("d-back.d-back.authorize", b"x")
    await flushed(other)
    await flushed(edge)
    assert heard == []


async def test_a_wrong_login_is_told_without_it(cluster: NatsCluster) -> None:
    """Neither the name nor the password is in the error."""
    with pytest.raises(NatsError) as error:
        await connected(config_of(cluster, "origin", "wrong-MARK"), "test", LOG)
    assert str(error.value) in {LOGIN, CLOSED}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def encrypted(folder: Path, authority: trustme.CA) -> AsyncIterator[NatsCluster]:
    """A server that wants TLS, and our certificate."""
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("server", "client"):
        issued = authority.issue_cert("127.0.0.1", common_name=name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    pem = folder / "server.pem"
    files = f'cert_file: "{pem}", key_file: "{pem}", ca_file: "{folder}/ca.pem"'
    conf = f"tls {{ {files}, verify: true }}"
    async with running(folder, conf, partial(secure, folder=folder)) as cluster:
        yield cluster


def secure(cluster: NatsCluster, folder: Path, *, trusting: bool = True) -> NatsConfig:
    pem = WatchedFile(folder / "client.pem")
    ca = WatchedFile(folder / "ca.pem") if trusting else None
    return NatsConfig(urls=cluster.urls, tls=NatsTls(ca=ca, cert=pem, key=pem))


async def test_tls_with_certificates_on_both_sides(
    encrypted: NatsCluster, folder: Path, origin: Origin, serve: Serve, join: Join
) -> None:
    """Both sides show a certificate of the same authority."""
    pem = str(folder / "client.pem")
    tls = {"ca": str(folder / "ca.pem"), "cert": pem, "key": pem}
    await origin(encrypted, town(), tls=tls)
    assert set((await join(await serve(encrypted, tls=tls))).users) == {"7", "8"}


async def test_a_server_of_another_authority_is_refused(
    encrypted: NatsCluster, folder: Path
) -> None:
    """No server is used whose certificate cannot be verified."""
    with pytest.raises(NatsError, match="TLS failed"):
        await connected(secure(encrypted, folder, trusting=False), "test", LOG)


async def test_with_tls_nothing_is_sent_in_the_clear(folder: Path) -> None:
    """A server that offers none gets no login."""
    async with running(folder, "") as cluster:
        config = NatsConfig(urls=cluster.urls, tls=NatsTls(), user="u", password=Secret("p"))
        with pytest.raises(NatsError, match="the server offers no TLS"):
            await connected(config, "test", LOG)
        plain = config_of(cluster, "u", "p")
        urls = tuple(url.replace("nats:", "tls:") for url in plain.urls)
        with pytest.raises(NatsError, match="the server offers no TLS"):
            await connected(structs.replace(plain, urls=urls), "test", LOG)


async def test_an_nkey(folder: Path) -> None:
    """The seed signs what the server asks; the server knows the public key only."""
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    conf = f"authorization {{ users: [ {{ nkey: {public} }} ] }}"

    def config(cluster: NatsCluster, seed: str = seed.decode()) -> NatsConfig:
        return NatsConfig(urls=cluster.urls, nkey=Secret(seed))

    async with running(folder, conf, config) as cluster:
        with pytest.raises(NatsError) as error:
            await connected(config(cluster, "SU-MARK"), "test", LOG)
        assert str(error.value) == "nkey or credentials: not a seed"


async def test_a_credentials_file(folder: Path) -> None:
    """A JWT that an account has signed, with its seed, as ``nsc`` writes them."""
    kinds = ("OPERATOR", "ACCOUNT", "ACCOUNT", "USER")
    operator, account, system, user = (pair(kind) for kind in kinds)
    system_jwt = signed(operator, system, {"type": "account", "version": 2})
    account_jwt = signed(
        operator, account, {"limits": {"conn": -1, "subs": -1, "data": -1, "payload": -1,
        "imports": -1, "exports": -1, "wildcards": True, "mem_storage": -1, "disk_storage": -1,
        "streams": -1, "consumer": -1}, "type": "account", "version": 2},
    )  # fmt: skip
    user_jwt = signed(
        account, user, {"subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}
    )
    operator_jwt = signed(operator, operator, {"type": "operator", "version": 2})
    (folder / "op.jwt").write_text(operator_jwt)
    credentials = folder / "user.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user[0].decode()}\n------END USER NKEY SEED------\n"
    )
    conf = (
        f'operator: "{folder}/op.jwt"\nresolver: MEMORY\n'
        f"system_account: {name_of(system)}\n"
        f"resolver_preload {{ {name_of(account)}: {account_jwt}\n"
        f"{name_of(system)}: {system_jwt} }}\n"
    )

    def config(cluster: NatsCluster) -> NatsConfig:
        return NatsConfig(urls=cluster.urls, credentials=WatchedFile(credentials))

    async with running(folder, conf, config) as cluster:
        with pytest.raises(NatsError, match="the login"):
            await connected(NatsConfig(urls=cluster.urls), "test", LOG)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "credentials: No such file or directory"), ("", "not a .creds file")],
)
async def test_credentials_that_are_none(folder: Path, text: str | None, message: str) -> None:
    """A file that is not there, or holds something else, is reported, and is not waited for."""
    path = folder / "user.creds"
    if text is not None:
        path.write_text(text)
    with pytest.raises(NatsError, match=message):
        await connected(NatsConfig(credentials=WatchedFile(path)), "test", LOG)


Pair = tuple[bytes, nkeys.KeyPair]


def pair(kind: str) -> Pair:
    seed = bytes(nkeys.encode_seed(os.urandom(32), getattr(nkeys, f"PREFIX_BYTE_{kind}")))
    return seed, nkeys.from_seed(bytearray(seed))


def name_of(key: Pair) -> str:
    return bytes(key[1].public_key).decode()


def signed(issuer: Pair, subject: Pair, claims: dict[str, object]) -> str:
    """A JWT as NATS reads them."""
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = {"jti": "x", "iat": 0, "iss": name_of(issuer), "sub": name_of(subject),
            "name": "test", "nats": claims}  # fmt: skip
    parts = [_packed(json.dumps(part).encode()) for part in (header, body)]
    return ".".join([*parts, _packed(issuer[1].sign(".".join(parts).encode()))])


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
