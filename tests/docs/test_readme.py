"""What the README and its neighbours say is so."""

import re
import tomllib

import pytest
from click.testing import CliRunner
from docs_pages import ROOT, anchors

from d_back_core import config as configuration
from d_back_core.cli import main as cli

README = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = ["README.md", "SECURITY.md", "CONTRIBUTING.md"]


@pytest.mark.parametrize("name", FILES)
def test_links(name: str) -> None:
    """Every link and picture leads to a file, and to a heading of it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    links += re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for link in links:
        target, _, anchor = link.partition("#")
        path = ROOT / target
        assert path.is_file(), link
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), link


def test_configuration() -> None:
    """The configuration is valid."""
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    config = configuration.parse(tomllib.loads(block))
    assert list(config.names) == ["discord", "sqlite"]


def test_the_transcript_is_that_of_the_docs() -> None:
    """Which a test plays."""
    (block,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    played = (ROOT / "docs/en/chain.md").read_text(encoding="utf-8")
    assert set(block.splitlines()) <= set(played.splitlines())


def test_commands() -> None:
    """The commands are known."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    shown = re.findall(r"^d-back\b([^#\n]*)", blocks, re.MULTILINE)
    assert shown
    for words in shown:
        answer = CliRunner().invoke(cli.main, [*words.split(), "--help"])
        assert answer.exit_code == 0, answer.output


def test_promises_name_their_tests() -> None:
    """Each promise of SECURITY.md links at least one test, which exists."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = text.partition("## What is promised")[2].partition("What is not promised")[0]
    for promise in promises.split("\n- ")[1:]:
        linked = re.findall(r"\]\(([^)]+)\)", promise)
        assert linked, promise
        assert all((ROOT / path).exists() for path in linked), promise


def test_promises_of_hidden_keys() -> None:
    """The keys that SECURITY.md names are keys."""
    schema = str(configuration.schema())
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    (line,) = re.findall(
        r"\*\*What the operator hides is not sent\*\*: (.*?)\.\n", text, re.DOTALL
    )
    keys = re.findall(r"`(\w+)`", line)
    assert keys
    assert all(f"'{key}'" in schema for key in keys)
