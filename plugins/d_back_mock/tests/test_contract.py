"""The mock keeps the contract."""

import json
from pathlib import Path
from typing import ClassVar

from d_back_core import Duration, File, Secret
from d_back_mock import MockConfig, MockProvider
from d_back_testing import ProviderContract


class TestDemo(ProviderContract):
    """The demo communities; one of them is protected."""

    secrets: ClassVar = ["the-demo-token"]

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(seed=1, authorize=Secret("the-demo-token")))


class TestCrowd(ProviderContract):
    """Large synthetic servers."""

    options: ClassVar = {"users": 10}

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(seed=1, users=3000, server_count=3))


class TestSilent(ProviderContract):
    """Nothing ever happens."""

    def provider(self) -> MockProvider:
        return MockProvider(
            MockConfig(presence_interval=Duration(0), message_interval=Duration(0))
        )


ADA = {"uid": "7", "username": "Ada", "status": "online", "roleColor": "#ff6b6b"}
DAY = (
    {"type": "server-list", "data": {"1": {"id": "plaza", "name": "Plaza", "passworded": False}}},
    {
        "type": "server-join",
        "data": {
            "users": {"7": ADA},
            "request": {"server": "plaza"},
            "serverName": "Plaza",
            "epoch": "e",
            "seq": 0,
        },
    },
    {"type": "presence", "server": "1", "seq": 1, "data": {"uid": "7", "status": "dnd"}},
)


class TestReplay(ProviderContract):
    """A recorded day, in which one thing happens after ten seconds."""

    def provider(self, tmp_path: Path) -> MockProvider:
        day = tmp_path / "day.jsonl"
        lines = [
            json.dumps({"time": f"2026-11-24T12:00:{seconds:02}.000000+00:00", "frame": frame})
            for seconds, frame in zip((0, 0, 10), DAY, strict=True)
        ]
        day.write_text("\n".join([*lines, ""]))
        return MockProvider(MockConfig(replay=File(day), repeat=False))
