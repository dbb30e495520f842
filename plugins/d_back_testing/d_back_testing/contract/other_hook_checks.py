"""Checks of ``authorize``, ``http`` and ``record``."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from d_back_core import (
    Change,
    Credentials,
    HttpRequest,
    HttpResponse,
    Server,
    ServerSet,
    Snapshot,
    User,
    UserRemoved,
    UserSet,
)
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import Harness
from d_back_testing.contract.lifecycle_checks import STEPS, cancelled_at
from d_back_testing.contract.record_checks import UNKNOWN_SERVERS
from d_back_testing.contract.rules import (
    AUTHORIZE,
    CANCELLED,
    HTTP,
    RECORD,
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
STATUSES = range(100, 600)


class UnknownChange(Struct):
    """A change of a type that a later version may add."""

    server_id: str = RECORDED


class OtherHookChecks(Suite):
    """Checks of ``authorize``, ``http`` and ``record``."""

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
    async def test_http_answers_its_own_paths(self, harness: Harness) -> None:
        """``http`` returns an `HttpResponse` for the provider's own paths, and None for others."""
        needs(harness, "http")
        await harness.ready()
        for method in ("GET", "HEAD"):
            for path in ("/d-back-no-such-path", "/../x", "/", *self.http_paths):
                for query in ("", "a=1&a=%00&b"):
                    request = HttpRequest(method=method, path=path, query=query, address="::1")
                    answer = await harness.ask("http", HTTP, request=request)
                    wrong = _wrong(answer)
                    if answer is not None and path == "/d-back-no-such-path":
                        wrong = "a response for a path that is not the provider's"
                    if answer is None and path in self.http_paths:
                        wrong = "None for a path of `http_paths`"
                    if wrong:
                        raise ContractError(
                            f"{harness.kind}.http({request!r}) returned {answer!r:.160}: {wrong}.",
                            HTTP,
                        )

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


def _wrong(answer: object) -> str:
    """Return what is invalid in a response, or ""."""
    if answer is None:
        return ""
    if not isinstance(answer, HttpResponse):
        return "expected an HttpResponse or None"
    if not isinstance(answer.body, bytes):
        return f"the type of the body is {type(answer.body).__name__}, expected bytes"
    if answer.status not in STATUSES:
        return f"the status is {answer.status!r}"
    if not isinstance(answer.headers, Mapping):
        return "the headers are not a mapping"
    for text in (answer.content_type, *answer.headers, *answer.headers.values()):
        if not isinstance(text, str) or not text.isprintable():
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
