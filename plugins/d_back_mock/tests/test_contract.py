"""The mock keeps the contract."""

import json
from pathlib import Path

import pytest

from d_back_core import File
from d_back_core.testing import ProviderContract
from d_back_mock import MockConfig, MockProvider

RECORDED: tuple[dict[str, object], ...] = (
    {"type": "server-list", "data": {"1": {"id": "a", "name": "A", "passworded": False}}},
    {
        "type": "server-join",
        "data": {
            "request": {"server": "a"},
            "users": {"7": {"username": "Ada", "status": "online", "roleColor": "#ff6b6b"}},
        },
    },
    {"type": "presence", "server": "1", "data": {"uid": "7", "status": "idle"}},
    {"type": "message", "server": "1", "data": {"uid": "7", "message": "hi", "channel": "5"}},
)


class TestDemo(ProviderContract):
    """The demo communities."""

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(seed=1))


class TestReplay(ProviderContract):
    """A recording."""

    @pytest.fixture(autouse=True)
    def record(self, tmp_path: Path) -> None:
        self.path = tmp_path / "day.jsonl"
        lines = (
            {"time": f"2026-11-24T12:00:0{number}Z", "frame": frame}
            for number, frame in enumerate(RECORDED)
        )
        self.path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def provider(self) -> MockProvider:
        return MockProvider(MockConfig(replay=File(self.path)))
