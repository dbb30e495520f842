"""Who may join, and with whose OAuth2 application clients log in.

Deny by default: every path that is not an explicit yes is a no.
"""

import asyncio
import logging
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf

from msgspec import Struct

from d_back_core.chain.policy import Policy
from d_back_core.clock import Clock
from d_back_core.errors import JoinError, ProviderError
from d_back_core.gateway.rate_limits import LoginThrottle, limit_key
from d_back_core.models import Credentials, EffectiveServer
from d_back_core.providers.supervisor import Supervisor
from d_back_core.providers.validation import ValidationLog, checked_client_id
from d_back_core.secret import Secret
from d_back_core.wire.protocol import AUTHENTICATION_FAILED, UNAUTHORIZED

log = logging.getLogger("d_back.access")


class Access:
    """Lets in who may join, and bounds how often one address may guess."""

    def __init__(self, clock: Clock, free_guesses: int) -> None:
        self.throttle = LoginThrottle(clock, free_guesses)

    async def authorize(
        self,
        server: EffectiveServer,
        credentials: Credentials,
        address: str,
        policy: Policy,
        contributors: Sequence[Supervisor],
    ) -> None:
        """Raise `JoinError` unless the server is open, or the operator's password or the first
        provider that decides lets them in.

        ``contributors`` are the providers that contribute to the server, in order.
        """
        if not server.passworded:
            return
        guesser = None if credentials == Credentials() else limit_key(address)
        if guesser is not None:
            wait = self.throttle.wait(guesser)
            if wait:
                seconds = ceil(wait)
                raise JoinError("rate_limited", f"Too many attempts. Try again in {seconds} s.")
            self.throttle.attempt(guesser)
        if await _is_let_in(server.server_id, credentials, address, policy, contributors):
            if guesser is not None:
                self.throttle.forgive(guesser)
            return
        if credentials.discord_token and credentials.discord_user:
            raise JoinError("authentication_failed", AUTHENTICATION_FAILED)
        raise JoinError("unauthorized", UNAUTHORIZED)


async def _is_let_in(
    server_id: str,
    credentials: Credentials,
    address: str,
    policy: Policy,
    contributors: Sequence[Supervisor],
) -> bool:
    password, offered = policy.password, credentials.password
    if password is not None and offered is not None and await _is_password(password, offered):
        return True
    for supervisor in contributors:
        if not supervisor.plugin.implements("authorize"):
            continue
        if not supervisor.started:  # what is held is of its former instance
            log.warning("provider %s has not started; the answer is no", supervisor.name)
            return False
        try:
            verdict = await supervisor.call(
                "authorize", server_id=server_id, credentials=credentials, address=address
            )
        except ProviderError as error:
            log.warning("%s; the answer is no", error)
            return False
        if verdict is not None:
            return verdict is True
    return False


async def _is_password(password: Secret, offered: str) -> bool:
    """Whether it is. A cancellation waits for the thread: a client whose joins supersede each
    other keeps one thread busy, and queues no work for many."""
    verifying = asyncio.ensure_future(asyncio.to_thread(password.matches, offered))
    try:
        return await asyncio.shield(verifying)
    finally:
        await asyncio.wait((verifying,))


def credentials_of(authorization: str) -> Credentials:
    """What an HTTP ``Authorization`` header offers (RFC 6750, RFC 7617)."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer" and value:
        return Credentials(discord_token=value.strip())
    if scheme.lower() == "basic":
        try:
            _, _, password = b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return Credentials()
        return Credentials(password=password)
    return Credentials()


class ClientIds:
    """The OAuth2 client ids that providers gave, by server_id and provider.

    Asked for once a server, or again when the answer is older than the provider allows; kept
    current by `ClientIdChanged`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, dict[str, _Answer]] = {}
        self._asking: dict[tuple[str, str], asyncio.Event] = {}

    async def ask(
        self,
        server_id: str,
        contributors: Iterable[Supervisor],
        validation_logs: Mapping[str, ValidationLog],
    ) -> None:
        """Ask those providers that have not answered for that server yet, or too long ago;
        whoever calls meanwhile shares the call."""
        for supervisor in contributors:
            if not supervisor.plugin.implements("client_id"):
                continue
            key = server_id, supervisor.name
            while (asking := self._asking.get(key)) is not None:
                await asking.wait()
                if self._answered(*key):
                    break
            else:
                if self._is_due(server_id, supervisor):
                    await self._ask(server_id, supervisor, validation_logs[supervisor.name])

    def put(self, server_id: str, name: str, client_id: str | None) -> None:
        """That provider says so."""
        answers = self._known.setdefault(server_id, {})
        answers.setdefault(name, _Answer()).client_id = client_id

    def invalidate(self, name: str) -> None:
        """Ask that provider again: it is another one of this name."""
        for answers in self._known.values():
            if name in answers:
                answers[name].outdated = True

    def first(self, server_id: str, names: Iterable[str]) -> str | None:
        """The client id of the first of these providers that gave one."""
        giver = self.giver(server_id, names)
        return None if giver is None else self._known[server_id][giver].client_id

    def giver(self, server_id: str, names: Iterable[str]) -> str | None:
        """The first of these providers that gave one."""
        known: Mapping[str, _Answer] = self._known.get(server_id, {})
        given = (name for name in names if name in known and known[name].client_id is not None)
        return next(given, None)

    def _answered(self, server_id: str, name: str) -> bool:
        return name in self._known.get(server_id, {})

    def _is_due(self, server_id: str, supervisor: Supervisor) -> bool:
        if supervisor.health != "ready":  # not worth the wait; a later join asks again
            return False
        answer = self._known.get(server_id, {}).get(supervisor.name)
        max_age = supervisor.plugin.capabilities.max_ages.get("client_id")
        if answer is None or answer.outdated:
            return True
        return max_age is not None and self._clock.time() - answer.asked_at >= max_age

    async def _ask(
        self, server_id: str, supervisor: Supervisor, validation_log: ValidationLog
    ) -> None:
        key = server_id, supervisor.name
        self._asking[key] = asyncio.Event()
        asked_at, before = self._clock.time(), self.first(server_id, [supervisor.name])
        try:
            answer = await supervisor.call("client_id", server_id=server_id)
        except ProviderError as error:
            log.warning("%s", error)
            return
        finally:
            self._asking.pop(key).set()
        given = checked_client_id(answer, validation_log)
        known = self._known.setdefault(server_id, {}).get(supervisor.name)
        if known is None:
            known = self._known[server_id][supervisor.name] = _Answer(client_id=given)
        elif known.client_id == before and known.given != given:
            known.client_id = given  # nothing newer came while it was asked, and it is news
        known.given, known.asked_at, known.outdated = given, asked_at, False


class _Answer(Struct):
    client_id: str | None = None
    given: str | None = None
    """What it said when it was asked last; what a later event said is in ``client_id``."""
    asked_at: float = -inf
    outdated: bool = False
