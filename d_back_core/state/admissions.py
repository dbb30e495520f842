"""Why each session of a protected server was let in, and when that ends (R25).

A session stays as long as its grounds hold:

- the operator's password: as long as it is the server's password;
- a provider's grant: until the provider revokes it, or it expires.

In the second half of its time a grant is renewed: the core asks the provider that gave it about
the person (`reauthorize`), again and again until there is an answer. No token is kept for that. A
provider that cannot answer for a while does not end the access of its people; the grant lasts
until its time is over.

A join awaits more than its authorization. A grant that is revoked meanwhile must not let the
session in: the join compares `Admissions.revocations` from before the authorization.
"""

import hashlib
import hmac
import logging
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, structs

from d_back_core.clock import Clock, Timer
from d_back_core.errors import ProviderError
from d_back_core.models import GRANT_LASTS, Grant, is_id
from d_back_core.providers.supervisor import Supervisor
from d_back_core.secret import Secret
from d_back_core.state.layer_source import Spawn
from d_back_core.state.subscribers import Subscriber

RETRY = 15.0
"""Seconds after which a provider that could not answer is asked again."""
OPERATORS = ":"
"""What the id of a grant by the operator's password begins with; others begin with the name of
their provider."""
RECENT = 1000
"""Revocations that are remembered for the joins under way."""

log = logging.getLogger("d_back.access")


class Granted(Struct, frozen=True, kw_only=True):
    """A valid grant, and the provider that gave it."""

    supervisor: Supervisor
    server_id: str
    person: str
    lasts: float
    """Seconds for which it is valid without being renewed."""

    @classmethod
    def of(cls, supervisor: Supervisor, server_id: str, grant: Grant) -> "Granted | None":
        """Return the grant as it counts; None if it is not valid."""
        lasts = grant.expires_after
        if is_id(grant.person) and isinstance(lasts, int | float) and lasts > 0:
            lasts = min(float(lasts), GRANT_LASTS)
            return cls(
                supervisor=supervisor, server_id=server_id, person=grant.person, lasts=lasts
            )
        log.warning("provider %s: authorize: refused a grant that is not valid", supervisor.name)
        return None

    def matches(self, provider: str, server_id: str, person: str) -> bool:
        """Return True if it is that person's grant of that provider for that server."""
        own = (self.supervisor.name, self.server_id, self.person)
        return own == (provider, server_id, person)


Grounds: TypeAlias = Secret | Granted | None
"""Why a client was let in. None: for as long as it stays."""


def grant_of(server_id: str, grounds: Grounds) -> Grant | bool:
    """Return the grounds for another process; True: for as long as the client stays."""
    if grounds is None:
        return True
    if isinstance(grounds, Secret):
        return Grant(person=password_id(server_id, grounds))
    person = person_id(grounds.supervisor.name, grounds.person)
    return Grant(person=person, expires_after=grounds.lasts)


def password_id(server_id: str, password: Secret) -> str:
    """Return the id of all grants by that password. It is the same after a restart, and of use to
    guess the password: pass it only to those who have shown that they know it."""
    key, message = password.reveal().encode(errors="surrogatepass"), server_id.encode()
    return OPERATORS + hmac.digest(key, message, hashlib.sha256).hex()[:32]


def person_id(provider: str, person: str) -> str:
    """Return the id of a provider's grant. One that is too long is shortened to a digest: such a
    grant can be revoked, and expires."""
    joined = f"{provider}:{person}"
    return joined if is_id(joined) else hashlib.sha256(joined.encode()).hexdigest()


class _Holder(Struct, eq=False):
    """A session that was let in by a grant."""

    granted: Granted
    ends_at: float
    timer: Timer | None = None


class Admissions:
    """The sessions that were let in on grounds that can end."""

    def __init__(self, clock: Clock, spawn: Spawn, end: Callable[[Subscriber], None]) -> None:
        """``end`` ends a session's subscription, and calls `forget`."""
        self.passwords: dict[Subscriber, Secret] = {}
        self.revocations = 0
        """Number of revocations so far."""
        self._recent: deque[tuple[str, str, str]] = deque(maxlen=RECENT)
        self._lost: dict[tuple[str, str, str], None] = {}
        """The newest revocations of people whom the provider has not let in again."""
        self._holders: dict[Subscriber, _Holder] = {}
        self._clock = clock
        self._spawn = spawn
        self._end = end

    def admit(self, session: Subscriber, grounds: Grounds) -> None:
        """Keep why the session was let in."""
        if isinstance(grounds, Secret):
            self.passwords[session] = grounds
        elif grounds is not None:
            holder = _Holder(grounds, self._clock.time() + grounds.lasts)
            self._holders[session] = holder
            self._renew_in(grounds.lasts / 2, session, holder)

    def forget(self, session: Subscriber) -> None:
        """The session has left its server."""
        self.passwords.pop(session, None)
        holder = self._holders.pop(session, None)
        if holder is not None and holder.timer is not None:
            holder.timer.cancel()

    def revoke(self, provider: str, server_id: str, person: str) -> None:
        """End the access of that person, also of joins under way."""
        self.revocations += 1
        self._recent.append((provider, server_id, person))
        self._lost[provider, server_id, person] = None
        if len(self._lost) > RECENT:
            del self._lost[next(iter(self._lost))]
        # A copy: `_end` calls `forget`.
        for session, holder in list(self._holders.items()):
            if holder.granted.matches(provider, server_id, person):
                self._end(session)

    def is_revoked(self, grounds: Grounds, before: int) -> bool:
        """Return True if the grant was revoked since there were that many ``revocations``."""
        since = self.revocations - before
        if not isinstance(grounds, Granted) or not since:
            return False
        # More than are remembered: the grant may be among them, so it counts as revoked.
        recent = islice(reversed(self._recent), since)
        return since > RECENT or any(grounds.matches(*each) for each in recent)

    def note_authorized(self, granted: Granted) -> None:
        """The provider has let that person in again."""
        self._lost.pop((granted.supervisor.name, granted.server_id, granted.person), None)

    def has_lost(self, granted: Granted) -> bool:
        """Return True if that person has lost access in this run, and was not let in since."""
        return (granted.supervisor.name, granted.server_id, granted.person) in self._lost

    def check_providers(self, supervisors: Mapping[str, Supervisor]) -> None:
        """End the grants of providers that are not configured any more, and renew those of
        providers whose configuration has changed."""
        for session, holder in list(self._holders.items()):
            granted = holder.granted
            supervisor = supervisors.get(granted.supervisor.name)
            if supervisor is None:
                self._end(session)
            elif supervisor is not granted.supervisor:
                # Its rules may be others now: ask at once, and not in half of the grant's time.
                holder.granted = structs.replace(granted, supervisor=supervisor)
                self._renew_in(0, session, holder)

    def _renew_in(self, delay: float, session: Subscriber, holder: _Holder) -> None:
        if holder.timer is not None:
            holder.timer.cancel()

        def renew() -> None:
            self._spawn(self._renew(session, holder))

        holder.timer = self._clock.call_later(delay, renew)

    async def _renew(self, session: Subscriber, holder: _Holder) -> None:
        asked_at = self._clock.time()
        verdict = await self.verdict(holder.granted, holder.ends_at - asked_at)
        if self._holders.get(session) is not holder:
            return  # it has left meanwhile
        left = holder.ends_at - self._clock.time()
        if verdict is True:
            # From the question on: what the person has lost since may be missing in the answer.
            holder.ends_at = asked_at + holder.granted.lasts
            self._renew_in(holder.granted.lasts / 2, session, holder)
        elif verdict is False or left <= 0:
            why = "is refused" if verdict is False else "has expired"
            log.info("server %s: the access of a person %s", holder.granted.server_id, why)
            self._end(session)
        else:  # no answer: an outage of the provider does not end the access of its people
            self._renew_in(min(RETRY, left), session, holder)

    async def verdict(self, granted: Granted, seconds: float) -> bool | None:
        """Return the provider's answer; None if there is none within that time."""
        supervisor = granted.supervisor
        if seconds <= 0 or not supervisor.plugin.implements("reauthorize"):
            return None
        try:
            async with self._clock.timeout(seconds):
                answer: object = await supervisor.call(
                    "reauthorize", server_id=granted.server_id, person=granted.person
                )
        except TimeoutError:
            return None
        except ProviderError as error:
            log.debug("%s; asked again until the grant expires", error)
            return None
        return None if answer is None else answer is True
