"""``d-back sqlite status``, ``import``, ``export`` and ``vacuum``, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Protocol

import pytest
from click.testing import CliRunner
from sqlite_files import execute, files_in, listed, make, said, stored, write

from d_back_core.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Begin, Join, Serve

EXPORTED = {
    "servers": [
        {
            "server_id": "1",
            "name": "Plaza",
            "public_id": "plaza",
            "passworded": False,
            "is_default": True,
            "enabled": True,
        }
    ],
    "users": [
        {
            "server_id": "1",
            "user_id": "7",
            "username": "Ada",
            "status": "online",
            "role_color": "#ff6b6b",
        },
        {
            "server_id": "1",
            "user_id": "8",
            "username": "Bo",
            "status": "idle",
            "role_color": "#4ecdc4",
        },
    ],
}


class Typed(Protocol):
    """Types ``d-back sqlite …``; the exit status, and all that is printed."""

    async def __call__(self, *words: str) -> tuple[int, str]: ...


@pytest.fixture
def typed(path: Path) -> Typed:
    config = path.with_name("d-back.toml")
    config.write_text(f"[providers.sqlite]\npath = {json.dumps(path.name)}\n")

    async def run(*words: str) -> tuple[int, str]:
        arguments = ["--config", str(config), "sqlite", *words]
        outcome = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        return outcome.exit_code, outcome.output

    return run


async def test_status(plaza: Path, typed: Typed, begin: Begin) -> None:
    """It says what there is, beside a running gateway, too."""
    expected = (
        r"file     .*/memory\.sqlite3, \d+ KiB\n"
        r"gateway  {}\n"
        r"tables   version 1 of 1\n"
        r"servers  1 rows\n"
        r"users    {} rows, last seen {}\n"
    )
    code, output = await typed("status")
    assert code == 0
    assert re.fullmatch(expected.format("does not use it", 2, "never"), output)
    provider = await begin(plaza)
    await provider.record([said("9")])
    code, output = await typed("status")
    assert code == 0
    seen = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(expected.format("uses it now", 3, seen), output)


async def test_status_without_a_file(path: Path, typed: Typed) -> None:
    """The exit status tells, and nothing is made."""
    code, output = await typed("status")
    assert code == 1
    assert output == f"file     {path}, missing: a gateway makes it when it starts\n"
    assert files_in(path.parent) == {"d-back.toml"}


async def test_status_of_a_corrupt_file(path: Path, typed: Typed) -> None:
    """It is named, and left where it is."""
    write(path, b"x" * 5000)
    code, output = await typed("status")
    assert code == 1
    assert output == f"Error: '{path}' is corrupt: file is not a database\n"
    assert files_in(path.parent) == {"d-back.toml", path.name}


async def test_what_is_exported_is_imported(plaza: Path, typed: Typed, tmp_path: Path) -> None:
    """A file that is exported from one database fills another one."""
    out = tmp_path / "out.json"
    code, output = await typed("export", str(out))
    assert (code, output) == (0, "1 servers, 2 users\n")
    assert json.loads(out.read_text()) == EXPORTED
    code, output = await typed("export", "-")
    assert json.loads(output[: output.rindex("}") + 1]) == EXPORTED
    before = stored(plaza)
    execute(plaza, "DELETE FROM users")
    assert await typed("import", str(out)) == (0, "1 servers, 2 users\n")
    assert stored(plaza) == before
    assert execute(plaza, "SELECT count(*) FROM users WHERE last_seen IS NULL") == [(0,)]


async def test_import_of_a_csv_while_a_gateway_runs(
    plaza: Path, typed: Typed, serve: Serve, join: Join, tmp_path: Path
) -> None:
    """Clients see what is imported."""
    world = await join(await serve(plaza))
    rows = tmp_path / "rows.csv"
    rows.write_text("server_id,user_id,username,status\n1,7,Eve,dnd\n1,9,Cy,online\n")
    assert await typed("import", str(rows)) == (0, "0 servers, 2 users\n")
    await world.until(lambda w: set(w.users) == {"7", "8", "9"})
    assert world.users["7"].username == "Eve"


async def test_import_is_all_or_nothing(plaza: Path, typed: Typed, tmp_path: Path) -> None:
    """A wrong row is named, and no other one is stored."""
    before = stored(plaza)
    rows = tmp_path / "rows.csv"
    rows.write_text("server_id,user_id,status\n1,7,dnd\n1,9,sleeping\n")
    code, output = await typed("import", str(rows))
    assert code == 2
    assert "rows.csv: line 3: " in output
    assert stored(plaza) == before


@pytest.mark.parametrize("target", ["out.csv", "out"])
async def test_export_of_another_kind(plaza: Path, typed: Typed, target: str) -> None:
    """Only .json holds servers and users."""
    del plaza
    assert await typed("export", target) == (1, f"Error: {target}: expected a .json file, or -\n")


async def test_vacuum(path: Path, typed: Typed, begin: Begin) -> None:
    """Deleted rows leave neither space nor a trace; a running gateway goes on."""
    provider = await begin(path)
    await provider.record([listed(), *(said(str(number)) for number in range(5000))])
    execute(path, "DELETE FROM users WHERE user_id <> '7'")
    code, output = await typed("vacuum")
    assert code == 0
    assert re.fullmatch(r"\d+ KiB before, \d+ KiB now\n", output)
    before, now = map(int, re.findall(r"\d+", output))
    assert now < before / 4
    await provider.record([said("8")])
    assert set(stored(path)) == {("1", "7"), ("1", "8")}


async def test_vacuum_without_a_file(path: Path, typed: Typed) -> None:
    """It does not make one."""
    assert await typed("vacuum") == (1, f"Error: '{path}' does not exist\n")
    make(path)
    assert (await typed("vacuum"))[0] == 0
