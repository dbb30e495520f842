"""What `servers` and `users` answer."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from d_back_core.models import Server, User
from d_back_core.providers.validation import ValidationLog, checked_records
from d_back_testing.contract.checks import Suite, check, needs
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.life import STEPS, cut_short
from d_back_testing.contract.promises import (
    CANCELLED,
    CONCURRENT,
    NOT_MINE,
    RECORDS,
    STILL,
    Promise,
)
from d_back_testing.contract.trial import NAME, Trial

STRANGERS = ("d-back-no-such-server", "0", "999999999999999999", "-", "~" * 64)


class Refused(ValidationLog):
    """What the border does not accept."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.values: list[str] = []

    def __call__(self, path: str, value: object) -> None:
        super().__call__(path, value)
        self.values.append(f"{path} {value!r:.80}")


async def check_records(answer: Mapping[Any, Any], kind: type[Server | User], what: str) -> None:
    """Break the contract where the border would have to mend the answer."""
    refused = Refused()
    await checked_records(answer, kind, refused)
    if refused.values:
        raise ContractError(
            f"{what} answered with what is not valid: {refused.values[0]}.", RECORDS
        )


class Answers(Suite):
    """Checks of what it says."""

    @check
    async def test_its_servers_are_valid(self, trial: Trial) -> None:
        """All servers are `Server` structs with valid fields, by valid ids."""
        needs(trial, "servers")
        await trial.ready()
        answer = await trial.servers()
        await check_records(answer or {}, Server, f"{trial.kind}.servers()")

    @check
    async def test_its_users_are_valid(self, trial: Trial) -> None:
        """All users are `User` structs with valid fields, by valid ids."""
        needs(trial, "users")
        known = await trial.ready()
        if not known:
            pytest.skip("it knows no server; say `server_id = ...`")
        for server_id in known:
            answer = await trial.users(server_id)
            await check_records(answer or {}, User, f"{trial.kind}.users({server_id!r})")

    @check
    async def test_a_server_that_is_not_its_own_is_none(self, trial: Trial) -> None:
        """For a server that it does not know, users are None: {} would empty it."""
        needs(trial, "users")
        known = await trial.ready()
        for stranger in STRANGERS:
            if stranger in known:
                continue
            answer = await trial.users(stranger)
            if answer is not None and (not self.every_server or not answer):
                shown = f"{dict(answer)!r:.80}"
                raise ContractError(
                    f"{trial.kind}.users({stranger!r}) answered {shown} for a server that it"
                    " does not know, not None.",
                    NOT_MINE,
                )

    @check
    async def test_what_it_says_twice_is_the_same(self, trial: Trial) -> None:
        """While the source stands still, so do the answers."""
        needs(trial, "servers", "users")
        known = await trial.ready()
        first = await _all(trial, known)
        _compare(trial, first, await _all(trial, known), "when it was asked again", STILL)

    @check
    async def test_calls_may_run_at_the_same_time(self, trial: Trial) -> None:
        """Calls for different servers do not disturb each other."""
        needs(trial, "servers", "users")
        known = await trial.ready()
        alone = await _all(trial, known)
        for _ in range(5):
            strangers = asyncio.gather(*(trial.users(each) for each in STRANGERS))
            together, _ = await asyncio.gather(_all_at_once(trial, known), strangers)
            _compare(trial, alone, together, "with other calls beside it", CONCURRENT)

    @check
    async def test_a_cancelled_call_ends_and_disturbs_no_other(self, trial: Trial) -> None:
        """A call that is cancelled, wherever it waits, ends as cancelled; the next answers."""
        needs(trial, "servers", "users")
        known = await trial.ready()
        before = await _all(trial, known)
        for step in STEPS[1:]:
            reached = False
            if trial.implements("servers"):
                reached |= await cut_short(trial, "servers", step, CANCELLED)
            for server_id in known if trial.implements("users") else ():
                reached |= await cut_short(trial, "users", step, CANCELLED, server_id=server_id)
            _compare(trial, before, await _all(trial, known), "after a cancelled call", CANCELLED)
            if not reached:
                break


async def _all(trial: Trial, known: list[str]) -> dict[str, object]:
    """Copies of all that it says."""
    answers: dict[str, object] = {"servers()": _copied(await trial.servers())}
    for each in known:
        answers[f"users({each!r})"] = _copied(await trial.users(each))
    return answers


async def _all_at_once(trial: Trial, known: list[str]) -> dict[str, object]:
    asked = ["servers()", *(f"users({each!r})" for each in known)]
    calls = (trial.servers(), *(trial.users(each) for each in known))
    answers = await asyncio.gather(*calls)
    return {key: _copied(answer) for key, answer in zip(asked, answers, strict=True)}


def _copied(answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if answer is None else dict(answer)


def _compare(
    trial: Trial, before: dict[str, object], after: dict[str, object], when: str, promise: Promise
) -> None:
    for key, was in before.items():
        if after[key] != was:
            raise ContractError(
                f"{trial.kind}.{key} answered {after[key]!r:.160} {when}, and {was!r:.160}"
                " before.",
                promise,
            )
