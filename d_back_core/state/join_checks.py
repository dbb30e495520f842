"""The checks of a join: made before its last wait, and compared with the state after it."""

from msgspec import Struct

from d_back_core.chain.layers import Layers
from d_back_core.errors import JoinError
from d_back_core.models import GRANT_LASTS, Credentials, EffectiveServer, Grant, Server
from d_back_core.providers.supervisor import Supervisor
from d_back_core.secret import Secret
from d_back_core.state.access import Access, requirement
from d_back_core.state.admissions import (
    OPERATORS,
    Admissions,
    Granted,
    Grounds,
    grant_of,
    password_id,
)
from d_back_core.state.parts import Parts
from d_back_core.wire import protocol


class Authorized(Struct, frozen=True):
    """What a join was authorized by, to be compared with what is there after its last wait."""

    grounds: Grounds
    password: Secret | None
    """The server's password at that moment, also if it was not given."""
    revocations: int
    """The number of revocations before the authorization began."""


class JoinChecks:
    """Authorizes joins, and gives and renews the grants of other processes of a cluster."""

    def __init__(self, parts: Parts, access: Access, admissions: Admissions) -> None:
        self._parts = parts
        self._access = access
        self._admissions = admissions

    async def authorize(
        self, server: EffectiveServer, credentials: Credentials, address: str
    ) -> Authorized:
        """Raise `JoinError` if they may not join."""
        policy = self._parts.registry.policy(server.server_id)
        contributors = self._contributors(server.server_id) if server.passworded else []
        revocations = self._admissions.revocations  # before the provider looks at the person
        authorize = self._access.authorize
        grounds = await authorize(server, credentials, address, policy, contributors)
        if isinstance(grounds, Granted) and not self._admissions.is_revoked(grounds, revocations):
            self._admissions.note_authorized(grounds)
        # The password as well, if it was not the grounds: it may be set or changed meanwhile.
        return Authorized(grounds, policy.password, revocations)

    def still_open(self, server: EffectiveServer, authorized: Authorized) -> EffectiveServer:
        """Return the server as it is now, after an await. Raises `JoinError` if it is gone, or
        protected since, or no longer by the password that was checked, or if the grant has been
        revoked."""
        self._parts.changes.flush()
        now = self._parts.server_list.servers.get(server.server_id)
        # No longer held although a join waits: the gateway stops, and the world may be empty.
        if now is None or server.server_id not in self._parts.registry.servers:
            raise JoinError("gone", protocol.UNKNOWN_SERVER)
        policy = self._parts.registry.policy(server.server_id)
        same = server.passworded and policy.password == authorized.password
        revoked = self._admissions.is_revoked(authorized.grounds, authorized.revocations)
        if now.passworded and (not same or revoked):
            raise JoinError("unauthorized", self.requirement(server.server_id))
        return now

    def requirement(self, server_id: str) -> str:
        """Return the text for a client that is refused: what it needs."""
        contributors = self._contributors(server_id)
        return requirement(self._parts.registry.policy(server_id), contributors)

    async def grant(self, server_id: str, credentials: Credentials, address: str) -> Grant | bool:
        """Return by what a client at that address could join with these credentials; False: it
        could not."""
        self._parts.changes.flush()
        found = self._parts.server_list.servers.get(server_id)
        if found is None or not found.passworded:
            return found is not None
        with self._parts.registry.watching(server_id) as server:
            # As for a join: a provider without a list contributes to a server by its users.
            await server.resolver.fresh()
            try:
                authorized = await self.authorize(found, credentials, address)
                self.still_open(found, authorized)
            except JoinError:
                return False
        return grant_of(server_id, authorized.grounds)

    async def renews(self, server_id: str, person: str) -> bool | None:
        """Return True if a grant by that id still holds, see `grant`; None if that cannot be said
        now, as the server or its provider is not known yet."""
        self._parts.changes.flush()
        found = self._parts.server_list.servers.get(server_id)
        if found is None or not found.passworded:
            return None if found is None else True
        if person.startswith(OPERATORS):
            password = self._parts.registry.policy(server_id).password
            return password is not None and password_id(server_id, password) == person
        provider, _, own = person.partition(":")
        supervisor = self._parts.providers.supervisors.get(provider)
        if supervisor is None:  # without an ":" it was shortened: it expires
            return False if own else None
        granted = Granted(
            supervisor=supervisor, server_id=server_id, person=own, lasts=GRANT_LASTS
        )
        verdict = await self._admissions.verdict(granted, GRANT_LASTS)
        # Another process may have missed the revocation, and the provider's answer may be older
        # than it, or None for want of a hook.
        return False if self._admissions.has_lost(granted) else verdict

    def _contributors(self, server_id: str) -> list[Supervisor]:
        """Return the providers that contribute to that server, in order."""
        lists: Layers[Server] = self._parts.list_resolver.layers
        names = {link.name for link, _ in lists.contributors(server_id)}
        server = self._parts.registry.servers.get(server_id)
        if server is not None:
            names |= server.resolver.layers.in_use.keys()
        providers = self._parts.providers
        return [providers.supervisors[name] for name in providers.links if name in names]
