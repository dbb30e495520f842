"""The options as an operator writes them, read and loaded by the core itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from d_back_core import ConfigError, Duration, Secret
from d_back_core.config import load
from d_back_core.providers.loader import load as load_plugins
from d_back_mock import MockConfig, MockProvider

Load = Callable[[str], MockConfig]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def load_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load this d-back.toml and return what the provider was made with."""
    made = []
    init = MockProvider.__init__

    def noted(provider: MockProvider, config: MockConfig) -> None:
        made.append(config)
        init(provider, config)

    def load_toml(text: str) -> MockConfig:
        path = tmp_path / "d-back.toml"
        path.write_text(text, encoding="utf-8")
        load_plugins(load(path, {}))
        return made.pop()

    monkeypatch.setattr(MockProvider, "__init__", noted)
    return load_toml


def test_defaults(load_toml: Load) -> None:
    """Without options there is the demo: a change every 4 s, a message every 5 s, no token."""
    assert load_toml("") == MockConfig(
        seed=None,
        presence_interval=Duration(4),
        message_interval=Duration(5),
        users=None,
        server_count=1,
        authorize=None,
        replay=None,
        speed=1.0,
        repeat=True,
    )


def test_all_options(load_toml: Load) -> None:
    """Every option is read, the intervals as durations and the token as a secret."""
    text = """
        [providers.mock]
        seed = 1
        presence_interval = "250ms"
        message_interval = 0
        users = 100000
        server_count = 10000
        authorize = "demo-token"
    """
    assert load_toml(text) == MockConfig(
        seed=1,
        presence_interval=Duration(0.25),
        message_interval=Duration(0),
        users=100_000,
        server_count=10_000,
        authorize=Secret("demo-token"),
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("presence_intervall = 1", "presence_intervall: unknown key (did you mean"),
        ("presence_interval = 'soon'", "presence_interval 'soon': expected a duration"),
        ("message_interval = -1", "message_interval '-1': expected a duration"),
        ("seed = 'x'", "seed 'x': expected"),
        ("users = 0", "users '0': expected"),
        ("users = 100001", "users '100001': expected"),
        ("users = 1\nserver_count = 0", "server_count '0': expected"),
        ("users = 1\nserver_count = 10001", "server_count '10001': expected"),
        ("server_count = 2", "server_count '2': only synthetic servers"),
        ("authorize = ''", "authorize: is empty"),
        ("authorize = 5", "authorize: expected a string"),
        ("replay = 'absent.jsonl'", "absent.jsonl': there is no such file"),
        (f"replay = '{'x' * 300}'", "x': File name too long"),
        ("replay = ''", "replay '': expected a path"),
        ("replay = 'd-back.toml'\nspeed = 0", "speed '0': expected"),
        ("replay = 'd-back.toml'\nspeed = nan", "speed 'nan': expected"),
        ("replay = 'd-back.toml'\nusers = 5", "replay: not together with 'users'"),
        ("replay = 'd-back.toml'\nseed = 5", "replay: not together with 'users' and 'seed'"),
        ("speed = 2", "speed and repeat: only with 'replay'"),
        ("repeat = false", "speed and repeat: only with 'replay'"),
    ],
)
def test_refused(load_toml: Load, options: str, sentence: str) -> None:
    """A wrong option is a sentence that names the table, the key and what it could be."""
    with pytest.raises(ConfigError) as caught:
        load_toml(f"[providers.mock]\n{options}")
    assert "d-back.toml: providers.mock" in str(caught.value)
    assert sentence in str(caught.value)


def test_hashed_token(load_toml: Load) -> None:
    """A hash is refused: it would be compared as the token, so every reader of it could join."""
    hashed = f"scrypt$16384$salt$8$1${'A' * 86}=="
    with pytest.raises(ConfigError, match="authorize: expected the token itself") as caught:
        load_toml(f"[providers.mock]\nauthorize = '{hashed}'")
    assert "salt" not in str(caught.value)


def test_documented() -> None:
    """The README's table has exactly the options that there are."""
    rows = [line.split("`")[1] for line in README.splitlines() if line.startswith("| `")]
    assert rows == list(MockConfig.__struct_fields__)


def test_examples(load_toml: Load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every d-back.toml of the README loads and says what its text promises."""
    monkeypatch.setenv("DEMO_TOKEN", "demo-token")
    (tmp_path / "day.jsonl").touch()
    demo, crowds, day = [
        load_toml(block.split("```")[0]) for block in README.split("```toml\n")[1:]
    ]
    assert demo == MockConfig(authorize=Secret("demo-token"))
    assert (crowds.users, crowds.server_count) == (5000, 200)
    assert (day.replay, day.speed, day.repeat) == (str(tmp_path / "day.jsonl"), 10, True)
