"""The demo servers as they are at the beginning, as plain dictionaries for callbacks."""

from typing import Any

from d_back_mock import demo


class MockDataProvider:
    """The mock data of d-back 0.0.x: the same servers and users at every call."""

    def __init__(self, server_instance: object = None) -> None:
        """``server_instance`` is what d-back 0.0.x needed here; it is not looked at."""
        self.server = server_instance
        self._communities = {each.server_id: each for each in demo.communities()}

    def get_mock_server_data(self) -> dict[str, dict[str, Any]]:
        """``{server_id: {"id", "name", "passworded", "default" (only of the default one)}}``."""
        return {
            server_id: {
                "id": community.server.id,
                "name": community.server.name,
                **({"default": True} if community.server.default else {}),
                "passworded": community.server.passworded,
            }
            for server_id, community in self._communities.items()
        }

    def get_mock_user_data(
        self, discord_server_id: str | None = None
    ) -> dict[str, dict[str, str]]:
        """``{uid: {"uid", "username", "status", "roleColor"}}``; empty for any other server."""
        community = self._communities.get(discord_server_id or "")
        if community is None:
            return {}
        members = map(community.members.__getitem__, range(len(community.members)))
        return {
            member.uid: {
                "uid": member.uid,
                "username": member.username,
                "status": member.status,
                "roleColor": member.role_color,
            }
            for member in members
        }
