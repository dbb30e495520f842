"""`WebSocketServer` with every name that the documentation of 0.0.x has, and its command.

`d_back_core.WebSocketServer` does the work. What is added here is old names for it: attributes
that programs read, and attributes that they assign.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from importlib_metadata import version

import d_back_core
from d_back.connections import Connection
from d_back.mock.data import MockDataProvider
from d_back_core.cli.main import main as command
from d_back_core.clock import Clock
from d_back_core.config import Config

__all__ = [
    "MockDataProvider",
    "WebSocketServer",
    "get_version",
    "main",
    "main_sync",
    "parse_args",
]

CALLBACKS = frozenset(
    {
        "on_get_server_data",
        "on_get_user_data",
        "on_validate_discord_user",
        "on_get_client_id",
        "on_static_request",
    }
)
HOST, PORT = "localhost", 3000

T = TypeVar("T")
Joined: TypeAlias = Mapping[str, frozenset[Any]]

log = logging.getLogger("d_back.compat")


class _Free(Generic[T]):
    """A name that the old class did not have: subclasses of it may use the name themselves."""

    def __set_name__(self, owner: type[object], name: str) -> None:
        self._name = name

    def __get__(self, server: object, owner: type[object]) -> T:
        current = getattr(d_back_core.WebSocketServer, self._name)
        found: T = current.__get__(server, owner)
        return found


class WebSocketServer(d_back_core.WebSocketServer):
    """The server of 0.0.x. A callback may also be assigned: ``server.on_get_user_data = f``."""

    def __init__(
        self,
        port: int | None = None,
        host: str | None = None,
        *,
        config: Config | None = None,
        providers: Mapping[str, object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(port, host, config=config, providers=providers, clock=clock)
        self.mock_provider = MockDataProvider(self)

    config: _Free[Config] = _Free()  # pyright: ignore[reportIncompatibleMethodOverride]
    joined: _Free[Joined] = _Free()  # pyright: ignore[reportIncompatibleMethodOverride]
    listener: _Free[Any] = _Free()  # pyright: ignore[reportIncompatibleMethodOverride]
    url: _Free[str] = _Free()  # pyright: ignore[reportIncompatibleMethodOverride]

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        if name in CALLBACKS:
            getattr(self, name)(value)
        elif name == "static_dir" and value is not None and not Path(value).is_dir():
            log.warning("%s", _not_a_folder(value))
        else:
            super().__setattr__(name, value)

    @property
    def server(self) -> Any:  # noqa: ANN401
        """The server object of the library ``websockets``; None while it does not listen."""
        return super().listener

    @server.setter
    def server(self, server: Any) -> None:  # noqa: ANN401
        """Do nothing: subclasses initialise the attribute, and its value is the gateway's."""

    @property
    def connections(self) -> frozenset[Any]:
        """The open connections; see `Connection`."""
        servers = self.live.server_list.servers
        joined = {
            connection: Connection(connection, server_id, servers[server_id].public_id)
            for server_id, connections in super().joined.items()
            if server_id in servers
            for connection in connections
        }
        return frozenset(
            joined.get(connection) or Connection(connection, None, None)
            for connection in super().connections
        )

    @connections.setter
    def connections(self, connections: Any) -> None:  # noqa: ANN401
        """Do nothing, as for `server`."""


def get_version() -> str:
    """Return the version of the installed d-back."""
    return version("d-back-compat")


def parse_args() -> argparse.Namespace:
    """Return ``port``, ``host`` and ``static_dir`` of the command line."""
    parser = argparse.ArgumentParser(prog="d_back", description="Serve live communities.")
    parser.add_argument("--port", type=int, default=PORT, help=f"[default: {PORT}]")
    parser.add_argument("--host", default=HOST, help=f"[default: {HOST}]")
    parser.add_argument("--static-dir", help="serve this directory at /")
    parser.add_argument("--version", action="version", version=f"d_back {get_version()}")
    return parser.parse_args()


async def main() -> None:
    """Serve the callbacks' demo data with the options of `parse_args`, until it is cancelled."""
    arguments = parse_args()
    logging.basicConfig(level=logging.INFO)
    server = WebSocketServer(arguments.port, arguments.host)
    if arguments.static_dir is not None:
        server.static_dir = arguments.static_dir
    await server.run_forever()


def main_sync() -> None:
    """Run the command ``d-back``; a ``--static-dir`` that is not a directory is a warning only."""
    arguments = sys.argv[1:]
    parser = argparse.ArgumentParser(prog="d_back", add_help=False, allow_abbrev=False)
    parser.add_argument("--static-dir")
    known, others = parser.parse_known_args(arguments)
    if known.static_dir is not None and not Path(known.static_dir).is_dir():
        print(f"Warning: {_not_a_folder(known.static_dir)}", file=sys.stderr)  # noqa: T201
        arguments = others
    command(arguments, prog_name="d_back")


def _not_a_folder(folder: str | PathLike[str]) -> str:
    return f"static_dir '{folder}': is not a directory; it is not served"


if __name__ == "__main__":
    asyncio.run(main())
