"""The options as an operator writes them, read and loaded by the core itself."""

from pathlib import Path
from typing import Any

import pytest

from d_back_core import ConfigError, Duration, Secret
from d_back_core.config import load, parse
from d_back_core.plugins import load as load_plugins
from d_back_mock import MockConfig, MockProvider

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[MockConfig]:
    """The configurations that providers were made with."""
    configs = []
    init = MockProvider.__init__

    def noted(provider: MockProvider, config: MockConfig) -> None:
        configs.append(config)
        init(provider, config)

    monkeypatch.setattr(MockProvider, "__init__", noted)
    return configs


def load_mock(**options: object) -> None:
    load_plugins(parse({"providers": {"mock": options}}, "d-back.toml"))


def test_defaults(made: list[MockConfig]) -> None:
    """Without options there is the demo: a change every 4 s, a message every 5 s, no token."""
    load_mock()
    (config,) = made
    assert (config.presence_interval, config.message_interval) == (Duration(4), Duration(5))
    assert (config.seed, config.users, config.server_count) == (None, None, 1)
    assert config.authorize is None


def test_all_options(made: list[MockConfig]) -> None:
    """Every option is read, the intervals as durations and the token as a secret."""
    load_mock(
        seed=1,
        presence_interval="250ms",
        message_interval=0,
        users=100_000,
        server_count=10_000,
        authorize="demo-token",
    )
    assert made == [
        MockConfig(
            seed=1,
            presence_interval=Duration(0.25),
            message_interval=Duration(0),
            users=100_000,
            server_count=10_000,
            authorize=Secret("demo-token"),
        )
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"presence_intervall": 1}, "presence_intervall: unknown key (did you mean"),
        ({"presence_interval": "soon"}, "presence_interval 'soon': expected a duration"),
        ({"message_interval": -1}, "message_interval '-1': expected a duration"),
        ({"seed": "x"}, "seed 'x': expected"),
        ({"users": 0}, "users '0': expected"),
        ({"users": 100_001}, "users '100001': expected"),
        ({"users": 1, "server_count": 0}, "server_count '0': expected"),
        ({"users": 1, "server_count": 10_001}, "server_count '10001': expected"),
        ({"server_count": 2}, "server_count '2': only synthetic servers"),
        ({"authorize": ""}, "authorize: is empty"),
        ({"authorize": 5}, "authorize: expected a text"),
    ],
)
def test_refused(options: dict[str, Any], sentence: str) -> None:
    """A wrong option is one sentence that names the key and what it could be."""
    with pytest.raises(ConfigError) as caught:
        load_mock(**options)
    assert str(caught.value).startswith("d-back.toml: providers.mock")
    assert sentence in str(caught.value)


def test_hashed_token() -> None:
    """A hash is refused: it would be compared as the token, so whoever reads it could enter."""
    hashed = f"scrypt$16384$salt$8$1${'A' * 86}=="
    with pytest.raises(ConfigError, match="authorize: expected the token itself") as caught:
        load_mock(authorize=hashed)
    assert "salt" not in str(caught.value)


def test_documented() -> None:
    """The README's table has exactly the options that there are."""
    rows = [line.split("`")[1] for line in README.splitlines() if line.startswith("| `")]
    assert rows == list(MockConfig.__struct_fields__)


def test_examples(tmp_path: Path, made: list[MockConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every d-back.toml of the README loads."""
    monkeypatch.setenv("DEMO_TOKEN", "demo-token")
    examples = [block.split("```")[0] for block in README.split("```toml\n")[1:]]
    for text in examples:
        path = tmp_path / "d-back.toml"
        path.write_text(text, encoding="utf-8")
        load_plugins(load(path, {}))
    assert len(made) == len(examples) == 2
