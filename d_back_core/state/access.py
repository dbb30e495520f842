"""Decides who may join. Deny by default: every path that is not an explicit yes is a no."""

import asyncio
import logging
from base64 import b64decode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil

from d_back_core.chain.policy import Policy
from d_back_core.clock import Clock
from d_back_core.errors import JoinError, ProviderError
from d_back_core.gateway.rate_limits import LoginThrottle, guess_key, peer_of
from d_back_core.log_once import LogOnce
from d_back_core.models import Credentials, EffectiveServer, Grant
from d_back_core.providers.supervisor import Supervisor
from d_back_core.secret import Secret
from d_back_core.state.admissions import Granted, Grounds
from d_back_core.wire.protocol import (
    AUTHENTICATION_FAILED,
    CLOSED,
    PASSWORD_OR_LOGIN,
    PASSWORD_REQUIRED,
    UNAUTHORIZED,
)

MAX_VERIFYING = 200
"""Passwords that are verified or wait for that. One takes 50 ms of CPU if it is kept as a hash."""
THREADS = 2
"""Threads that verify hashes. Other work has other threads, and does not wait for guesses."""
_threads = ThreadPoolExecutor(THREADS, thread_name_prefix="d-back-passwords")

log = logging.getLogger("d_back.access")


class Access:
    """Authorizes joins, and limits how often one address may try."""

    def __init__(self, clock: Clock, free_attempts: int) -> None:
        self.throttle = LoginThrottle(clock, free_attempts)
        self._verifying = 0
        self._warn = LogOnce(log)

    async def authorize(
        self,
        server: EffectiveServer,
        credentials: Credentials,
        address: str,
        policy: Policy,
        contributors: Sequence[Supervisor],
    ) -> Grounds:
        """Raise `JoinError` unless the server is open, or the operator's password or the first
        provider that decides admits the client (R24). Return for how long the client may stay
        (R25): as long as this is the password, or this grant is valid; None: without end.

        ``contributors`` are the providers that contribute to the server, in order.
        """
        if not server.passworded:
            return None
        limited = None if credentials == Credentials() else guess_key(address)
        if limited is not None:
            wait = self.throttle.wait(limited)
            if wait:
                seconds = ceil(wait)
                raise JoinError("rate_limited", f"Too many attempts. Try again in {seconds} s.")
        if self._verifying >= MAX_VERIFYING:  # this attempt does not count as a failure
            raise JoinError("rate_limited", "Too many attempts. Try again in 5 s.")
        if limited is not None:
            # Before the check: attempts at the same time count against each other.
            self.throttle.attempt(limited)
        password, offered = policy.password, credentials.password
        peer = peer_of(address)
        admitted: Grounds | bool
        if (
            password is not None
            and offered is not None
            and await self._is_password(password, offered)
        ):
            admitted = password
        else:
            admitted = await self._verdict(server.server_id, credentials, peer, contributors)
        if admitted is not False:
            if limited is not None:
                self.throttle.forgive(limited)
            return None if admitted is True else admitted
        if credentials.discord_token and credentials.discord_user:
            raise JoinError("authentication_failed", AUTHENTICATION_FAILED)
        raise JoinError("unauthorized", requirement(policy, contributors))

    async def _is_password(self, password: Secret, offered: str) -> bool:
        """Return True if it is the password."""
        self._verifying += 1
        try:
            return await verified(password, offered)
        finally:
            self._verifying -= 1

    async def _verdict(
        self,
        server_id: str,
        credentials: Credentials,
        address: str,
        contributors: Sequence[Supervisor],
    ) -> Granted | bool:
        """Return the verdict of the first provider that decides; False if none does."""
        for supervisor in contributors:
            if not supervisor.plugin.implements("authorize"):
                continue
            try:
                verdict = await supervisor.call(
                    "authorize", server_id=server_id, credentials=credentials, address=address
                )
            except (
                ProviderError
            ) as error:  # also if it is not running: its layer may still be in use
                self._warn("failed", supervisor.name, "%s; the answer is no", error)
                return False
            if isinstance(verdict, Grant):
                return Granted.of(supervisor, server_id, verdict) or False
            if verdict is not None and not isinstance(verdict, bool):
                wrong = (
                    "provider %s: authorize: returned %s, expected True, False or None; it is a no"
                )
                self._warn(
                    "verdict", supervisor.name, wrong, supervisor.name, type(verdict).__name__
                )
            if verdict is not None:
                return verdict is True
        return False


def requirement(policy: Policy, contributors: Sequence[Supervisor]) -> str:
    """Return the text of the error for a client without valid credentials (R34)."""
    kinds = {kind for each in contributors for kind in each.plugin.credentials}
    if policy.password is not None:
        kinds.add("password")
    if kinds == {"password"}:
        return PASSWORD_REQUIRED
    return PASSWORD_OR_LOGIN if "password" in kinds else UNAUTHORIZED if kinds else CLOSED


async def verified(password: Secret, offered: str) -> bool:
    """Return True if it is the password; a hash is verified in a thread.

    A cancellation waits for the thread: a client whose joins supersede each other then occupies
    one thread, and cannot queue work for many.
    """
    if not password.is_hash:
        return password.matches(offered)
    verifying = asyncio.get_running_loop().run_in_executor(_threads, password.matches, offered)
    try:
        return await asyncio.shield(verifying)
    finally:
        await asyncio.wait((verifying,))


def credentials_of(authorization: str) -> Credentials:
    """Return the credentials in an HTTP ``Authorization`` header (RFC 6750, RFC 7617)."""
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
