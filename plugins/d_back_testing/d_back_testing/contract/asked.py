"""The hooks that are asked for one thing: access, a client id, a path; and recorders."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from d_back_core.models import (
    Change,
    Credentials,
    Server,
    ServerSet,
    Snapshot,
    User,
    UserRemoved,
    UserSet,
)
from d_back_core.web import HttpRequest, HttpResponse
from d_back_testing.contract.answers import STRANGERS
from d_back_testing.contract.checks import Suite, check, needs
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.life import STEPS, cut_short
from d_back_testing.contract.promises import (
    AUTHORIZE,
    CANCELLED,
    HTTP,
    RECORD,
    UNLOGGED,
)
from d_back_testing.contract.trial import Trial

GUESSED = "d-back-contract-guessed"
"""A password and a token that are nobody's."""
OFFERS = (
    Credentials(),
    Credentials(password=""),
    Credentials(password=GUESSED),
    Credentials(password=f"{GUESSED}-ä\x00\ud800"),
    Credentials(discord_token=GUESSED),
    Credentials(discord_token=GUESSED, discord_user={"id": "1"}),
    Credentials(discord_token=GUESSED, discord_user={"id": 1, "roles": [None]}),
    Credentials(discord_user={}),
)
"""Credentials that open nothing."""
OURS = "424242424242424242"
"""The server that is recorded."""
STATUSES = range(100, 600)


class Novel(Struct):
    """A change that a later version might bring."""

    server_id: str = OURS


class Asked(Suite):
    """Checks of these hooks."""

    @check
    async def test_nobody_is_let_in_without_credentials(self, trial: Trial) -> None:
        """Credentials that are missing, guessed or malformed open no server, and are not
        logged."""
        needs(trial, "authorize")
        known = await trial.ready()
        for server_id in (*known, STRANGERS[0]):
            for offer in OFFERS:
                answer, error = await _answered(trial, server_id, offer)
                if answer not in {False, None} or not isinstance(answer, bool | None):
                    raise ContractError(
                        f"{trial.kind}.authorize({server_id!r}, {offer!r}) answered {answer!r}.",
                        AUTHORIZE,
                    )
                if GUESSED in error or any(GUESSED in line for line in trial.log.lines):
                    raise ContractError(
                        f"{trial.kind}.authorize({server_id!r}, {offer!r}) shows what was offered"
                        " in the log or in what it raised.",
                        UNLOGGED,
                    )

    @check
    async def test_paths_are_answered_or_left_to_others(self, trial: Trial) -> None:
        """A path of its own gets an `HttpResponse`, any other None."""
        needs(trial, "http")
        await trial.ready()
        for method in ("GET", "HEAD"):
            for path in ("/d-back-no-such-path", "/../x", "/", *self.http_paths):
                for query in ("", "a=1&a=%00&b"):
                    request = HttpRequest(method=method, path=path, query=query, address="::1")
                    answer = await trial.ask("http", HTTP, request=request)
                    wrong = _wrong(answer)
                    if answer is not None and path == "/d-back-no-such-path":
                        wrong = "an answer for a path that is not its own"
                    if answer is None and path in self.http_paths:
                        wrong = "no answer for a path of its own"
                    if wrong:
                        raise ContractError(
                            f"{trial.kind}.http({request!r}) answered {answer!r:.160}: {wrong}.",
                            HTTP,
                        )

    @check
    async def test_a_batch_may_be_recorded_twice(self, trial: Trial) -> None:
        """The same changes again, after a call that was cancelled too, do no harm; changes of a
        kind that it does not know neither."""
        needs(trial, "record")
        known = await trial.ready()
        batch = _batch(known)
        for step in STEPS[1:]:
            reached = await cut_short(trial, "record", step, CANCELLED, changes=batch)
            await trial.ask("record", RECORD, changes=batch)
            await _check_remembered(trial)
            if not reached:
                break
        await trial.ask("record", RECORD, changes=[*batch, Novel()])
        await trial.ask("record", RECORD, changes=[])
        await _check_remembered(trial)


async def _answered(trial: Trial, server_id: str, offer: Credentials) -> tuple[Any, str]:
    """The answer, or None and what it raised: that is a no."""
    asked = {"server_id": server_id, "credentials": offer, "address": "127.0.0.1"}
    try:
        return await trial.call("authorize", AUTHORIZE, **asked), ""
    except ContractError:
        raise
    except Exception as error:  # noqa: BLE001  other people's code: it may raise anything
        return None, str(error)


def _wrong(answer: object) -> str:
    """What is wrong with a response, or ""."""
    if answer is None:
        return ""
    if not isinstance(answer, HttpResponse):
        return "neither an HttpResponse nor None"
    if not isinstance(answer.body, bytes):
        return f"a body of {type(answer.body).__name__}, not of bytes"
    if answer.status not in STATUSES:
        return f"the status {answer.status!r}"
    if not isinstance(answer.headers, Mapping):
        return "headers that are no mapping"
    for text in (answer.content_type, *answer.headers, *answer.headers.values()):
        if not isinstance(text, str) or not text.isprintable():
            return f"{text!r} in its headers"
    return ""


def _batch(known: Sequence[str]) -> list[Change]:
    ada = User(username="Ada", status="online", role_color="#ff6b6b")
    return [
        ServerSet(
            server_id=OURS,
            server=Server(name="Recorded", id="recorded", default=False, client_id="4711"),
        ),
        Snapshot(server_id=None, keys=frozenset({OURS, *known})),
        UserSet(server_id=OURS, uid="7", user=ada),
        UserSet(server_id=OURS, uid="8", user=User(username="Bob")),
        UserRemoved(server_id=OURS, uid="9"),
        Snapshot(server_id=OURS, keys=frozenset({"7", "8"})),
    ]


async def _check_remembered(trial: Trial) -> None:
    """Break the contract where it speaks of what it has recorded, and says something else."""
    answer = await trial.users(OURS)
    if answer is None:
        return
    names = {uid: user.username for uid, user in answer.items()}
    if names != {"7": "Ada", "8": "Bob"}:
        raise ContractError(
            f"{trial.kind}.users({OURS!r}) answered {answer!r:.200} after Ada (7) and Bob (8) were"
            " recorded.",
            RECORD,
        )
