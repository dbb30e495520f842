"""Checks of ``authorize``, ``routes`` and ``record``."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from starlette.applications import Starlette
from starlette.types import Message

from d_back_core import (
    Change,
    Credentials,
    Server,
    ServerSet,
    Snapshot,
    User,
    UserRemoved,
    UserSet,
)
from d_back_core.errors import described
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import Harness
from d_back_testing.contract.lifecycle_checks import STEPS, cancelled_at
from d_back_testing.contract.record_checks import UNKNOWN_SERVERS
from d_back_testing.contract.rules import (
    AUTHORIZE,
    CANCELLED,
    RECORD,
    ROUTES,
    UNLOGGED,
)
from d_back_testing.contract.suite import Suite, check, needs

GUESSED = "d-back-contract-guessed"
"""A password and a token that do not exist."""
WRONG_CREDENTIALS = (
    Credentials(),
    Credentials(password=""),
    Credentials(password=GUESSED),
    Credentials(password=f"{GUESSED}-ä\x00\ud800"),
    Credentials(discord_token=GUESSED),
    Credentials(discord_token=GUESSED, discord_user={"id": "1"}),
    Credentials(discord_token=GUESSED, discord_user={"id": 1, "roles": [None]}),
    Credentials(discord_user={}),
)
"""Credentials that no server may accept."""
RECORDED = "424242424242424242"
"""The server whose changes are recorded."""
NOT_FOUND, SERVER_ERROR = 404, 500


class UnknownChange(Struct):
    """A change of a type that a later version may add."""

    server_id: str = RECORDED


class OtherHookChecks(Suite):
    """Checks of ``authorize``, ``routes`` and ``record``."""

    @check
    async def test_wrong_credentials_are_refused(self, harness: Harness) -> None:
        """Missing, guessed and malformed credentials are refused and not logged."""
        needs(harness, "authorize")
        known = await harness.ready()
        for server_id in (*known, UNKNOWN_SERVERS[0]):
            for offer in WRONG_CREDENTIALS:
                answer, error = await _authorize(harness, server_id, offer)
                if answer not in {False, None} or not isinstance(answer, bool | None):
                    raise ContractError(
                        f"{harness.kind}.authorize({server_id!r}, {offer!r}) returned {answer!r}.",
                        AUTHORIZE,
                    )
                if GUESSED in error or any(GUESSED in line for line in harness.log.lines):
                    raise ContractError(
                        f"{harness.kind}.authorize({server_id!r}, {offer!r}) shows the credentials"
                        " in the log or in its exception.",
                        UNLOGGED,
                    )

    @check
    async def test_routes_answer(self, harness: Harness) -> None:
        """Each of `http_paths` is answered, with and without a query, and no request fails."""
        needs(harness, "routes")
        app = Starlette(routes=harness.routes())
        await harness.ready()
        for method in ("GET", "HEAD", "POST", "BREW"):
            for path in ("/d-back-no-such-path", "/", *self.http_paths):
                for query in ("", "a=1&a=%00&b"):
                    what = f"{harness.kind}: {method} {path}?{query}"
                    sent = await harness.within(_request(app, method, path, query), what, ROUTES)
                    wrong = _wrong(sent)
                    expected = method == "GET" and path in self.http_paths
                    if not wrong and expected and sent[0]["status"] == NOT_FOUND:
                        wrong = "404 for a path of `http_paths`"
                    if wrong:
                        raise ContractError(f"{what}: {wrong}.", ROUTES)

    @check
    async def test_record_is_idempotent(self, harness: Harness) -> None:
        """The same changes may be recorded again, also after a cancelled call. Changes of an
        unknown type are ignored."""
        needs(harness, "record")
        known = await harness.ready()
        batch = _batch(known)
        for step in STEPS[1:]:
            reached = await cancelled_at(harness, "record", step, CANCELLED, changes=batch)
            await harness.ask("record", RECORD, changes=batch)
            await _check_recorded(harness)
            if not reached:
                break
        await harness.ask("record", RECORD, changes=[*batch, UnknownChange()])
        await harness.ask("record", RECORD, changes=[])
        await _check_recorded(harness)


async def _authorize(harness: Harness, server_id: str, offer: Credentials) -> tuple[Any, str]:
    """Return the answer and "", or None and the text of the exception, which counts as a no."""
    asked = {"server_id": server_id, "credentials": offer, "address": "127.0.0.1"}
    try:
        return await harness.call("authorize", AUTHORIZE, **asked), ""
    except ContractError:
        raise
    except Exception as error:  # noqa: BLE001  the provider's code may raise anything
        return None, str(error)


async def _request(app: Starlette, method: str, path: str, query: str) -> list[Message]:
    """Return what the application sends for a request without a body, or its exception as a
    response."""
    sent: list[Message] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("192.0.2.1", 1),
        "server": ("localhost", 3000),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001  the provider's code may raise anything
        return [{"type": "http.response.start", "status": SERVER_ERROR, "error": error}]
    return sent


def _wrong(sent: Sequence[Message]) -> str:
    """Return what is invalid in a response, or ""."""
    if not sent or sent[0]["type"] != "http.response.start":
        return "no response"
    if "error" in sent[0]:
        return f"it raised {described(sent[0]['error'])}"
    if sent[0]["status"] >= SERVER_ERROR:
        return f"the status is {sent[0]['status']}"
    for name, value in sent[0].get("headers", ()):
        text = f"{name.decode('latin-1')}: {value.decode('latin-1')}"
        if not text.isprintable():
            return f"{text!r} in the headers"
    return ""


def _batch(known: Sequence[str]) -> list[Change]:
    ada = User(username="Ada", status="online", role_color="#ff6b6b")
    return [
        ServerSet(
            server_id=RECORDED,
            server=Server(name="Recorded", id="recorded", default=False, client_id="4711"),
        ),
        Snapshot(server_id=None, keys=frozenset({RECORDED, *known})),
        UserSet(server_id=RECORDED, uid="7", user=ada),
        UserSet(server_id=RECORDED, uid="8", user=User(username="Bob")),
        UserRemoved(server_id=RECORDED, uid="9"),
        Snapshot(server_id=RECORDED, keys=frozenset({"7", "8"})),
    ]


async def _check_recorded(harness: Harness) -> None:
    """Raise `ContractError` if the provider knows the recorded server and returns other users."""
    answer = await harness.users(RECORDED)
    if answer is None:
        return
    names = {uid: user.username for uid, user in answer.items()}
    if names != {"7": "Ada", "8": "Bob"}:
        raise ContractError(
            f"{harness.kind}.users({RECORDED!r}) returned {answer!r:.200} after Ada (7) and"
            " Bob (8) were recorded.",
            RECORD,
        )
