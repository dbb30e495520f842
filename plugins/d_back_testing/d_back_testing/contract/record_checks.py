"""Checks of ``servers`` and ``users``."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from d_back_core import Server, User
from d_back_core.providers.validation import ValidationLog, checked_records
from d_back_testing.contract.error import ContractError
from d_back_testing.contract.harness import NAME, Harness
from d_back_testing.contract.lifecycle_checks import STEPS, cancelled_at
from d_back_testing.contract.rules import (
    CANCELLED,
    CONCURRENT,
    NOT_MINE,
    RECORDS,
    STILL,
    Rule,
)
from d_back_testing.contract.suite import Suite, check, needs

UNKNOWN_SERVERS = ("d-back-no-such-server", "0", "999999999999999999", "-", "~" * 64)


class RejectedValues(ValidationLog):
    """Collects the values that validation rejects."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.values: list[str] = []

    def __call__(self, path: str, value: object) -> None:
        super().__call__(path, value)
        self.values.append(f"{path} {value!r:.80}")


async def check_records(answer: Mapping[Any, Any], kind: type[Server | User], what: str) -> None:
    """Raise `ContractError` if validation rejects a part of the answer."""
    rejected = RejectedValues()
    await checked_records(answer, kind, rejected)
    if rejected.values:
        raise ContractError(f"{what} returned an invalid value: {rejected.values[0]}.", RECORDS)


class RecordChecks(Suite):
    """Checks of ``servers`` and ``users``."""

    @check
    async def test_servers_are_valid(self, harness: Harness) -> None:
        """``servers`` returns `Server` structs with valid fields, by valid ids."""
        needs(harness, "servers")
        await harness.ready()
        answer = await harness.servers()
        await check_records(answer or {}, Server, f"{harness.kind}.servers()")

    @check
    async def test_users_are_valid(self, harness: Harness) -> None:
        """``users`` returns `User` structs with valid fields, by valid ids."""
        needs(harness, "users")
        known = await harness.ready()
        if not known:
            pytest.skip("the provider lists no server; define `server_id = ...`")
        for server_id in known:
            answer = await harness.users(server_id)
            await check_records(answer or {}, User, f"{harness.kind}.users({server_id!r})")

    @check
    async def test_unknown_server_returns_none(self, harness: Harness) -> None:
        """``users`` returns None for an unknown server: {} would empty the server."""
        needs(harness, "users")
        known = await harness.ready()
        for unknown in UNKNOWN_SERVERS:
            if unknown in known:
                continue
            answer = await harness.users(unknown)
            if answer is not None and (not self.every_server or not answer):
                shown = f"{dict(answer)!r:.80}"
                raise ContractError(
                    f"{harness.kind}.users({unknown!r}) returned {shown} for a server that it"
                    " does not know, expected None.",
                    NOT_MINE,
                )

    @check
    async def test_repeated_calls_agree(self, harness: Harness) -> None:
        """Two calls return the same while the source does not change."""
        needs(harness, "servers", "users")
        known = await harness.ready()
        first = await _all(harness, known)
        _compare(harness, first, await _all(harness, known), "when called again", STILL)

    @check
    async def test_concurrent_calls_agree(self, harness: Harness) -> None:
        """Concurrent calls for different servers return what single calls return."""
        needs(harness, "servers", "users")
        known = await harness.ready()
        alone = await _all(harness, known)
        for _ in range(5):
            unknown = asyncio.gather(*(harness.users(each) for each in UNKNOWN_SERVERS))
            together, _ = await asyncio.gather(_all_at_once(harness, known), unknown)
            _compare(harness, alone, together, "with concurrent calls", CONCURRENT)

    @check
    async def test_cancelled_call_ends(self, harness: Harness) -> None:
        """A call that is cancelled, at each point where it waits, ends; the next call answers."""
        needs(harness, "servers", "users")
        known = await harness.ready()
        before = await _all(harness, known)
        for step in STEPS[1:]:
            reached = False
            if harness.implements("servers"):
                reached |= await cancelled_at(harness, "servers", step, CANCELLED)
            for server_id in known if harness.implements("users") else ():
                reached |= await cancelled_at(
                    harness, "users", step, CANCELLED, server_id=server_id
                )
            _compare(
                harness, before, await _all(harness, known), "after a cancelled call", CANCELLED
            )
            if not reached:
                break


async def _all(harness: Harness, known: list[str]) -> dict[str, object]:
    """Return copies of the answers of ``servers`` and ``users``."""
    answers: dict[str, object] = {"servers()": _copied(await harness.servers())}
    for each in known:
        answers[f"users({each!r})"] = _copied(await harness.users(each))
    return answers


async def _all_at_once(harness: Harness, known: list[str]) -> dict[str, object]:
    asked = ["servers()", *(f"users({each!r})" for each in known)]
    calls = (harness.servers(), *(harness.users(each) for each in known))
    answers = await asyncio.gather(*calls)
    return {key: _copied(answer) for key, answer in zip(asked, answers, strict=True)}


def _copied(answer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if answer is None else dict(answer)


def _compare(
    harness: Harness, before: dict[str, object], after: dict[str, object], when: str, rule: Rule
) -> None:
    for key, was in before.items():
        if after[key] != was:
            raise ContractError(
                f"{harness.kind}.{key} returned {after[key]!r:.160} {when}, and {was!r:.160}"
                " before.",
                rule,
            )
