"""Who may join, and with whose OAuth2 application clients log in.

Deny by default: every path that is not an explicit yes is a no.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping

from d_back_core.border import Complaints, checked_client_id
from d_back_core.errors import ProviderError
from d_back_core.models import Credentials
from d_back_core.policy import Policy
from d_back_core.supervisor import Supervisor

log = logging.getLogger("d_back.access")


async def authorized(
    server_id: str,
    credentials: Credentials,
    address: str,
    policy: Policy,
    contributors: Iterable[Supervisor],
) -> bool:
    """Whether the operator's password or the first provider that decides lets them in.

    ``contributors`` are the providers that contribute to the server, in order.
    """
    password, offered = policy.password, credentials.password
    if password is not None and offered is not None:
        verified = await asyncio.to_thread(password.matches, offered)
        if verified:
            return True
    for supervisor in contributors:
        if not supervisor.plugin.implements("authorize"):
            continue
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


class ClientIds:
    """The OAuth2 client ids that providers gave, by server_id and provider.

    Asked for once a server; kept current by `ClientIdChanged`.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, str | None]] = {}

    async def ask(
        self,
        server_id: str,
        contributors: Iterable[Supervisor],
        complaints: Mapping[str, Complaints],
    ) -> None:
        """Ask those providers that have not answered for that server yet."""
        known = self._known.setdefault(server_id, {})
        for supervisor in contributors:
            if supervisor.name in known or not supervisor.plugin.implements("client_id"):
                continue
            if supervisor.health != "ready":  # not worth the wait; a later join asks again
                continue
            try:
                answer = await supervisor.call("client_id", server_id=server_id)
            except ProviderError as error:
                log.warning("%s", error)
                continue
            checked = checked_client_id(answer, complaints[supervisor.name])
            known.setdefault(supervisor.name, checked)

    def put(self, server_id: str, name: str, client_id: str | None) -> None:
        """That provider says so."""
        self._known.setdefault(server_id, {})[name] = client_id

    def first(self, server_id: str, names: Iterable[str]) -> str | None:
        """The client id of the first of these providers that gave one."""
        known: Mapping[str, str | None] = self._known.get(server_id, {})
        return next((found for name in names if (found := known.get(name)) is not None), None)
