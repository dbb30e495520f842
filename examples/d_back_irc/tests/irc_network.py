"""A real IRC server, Debian's ``ngircd``, and members of its channels."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

PATIENCE = 60.0
"""For machines that are busy."""
NGIRCD = shutil.which("ngircd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_ngircd = pytest.mark.skipif(
    NGIRCD is None and "D_BACK_CI" not in os.environ,
    reason="ngircd is not installed (apt install ngircd)",
)
CHANNELS = ("#plaza", "#bar")
PASSWORD = "open-sesame"
CONFIG = """\
[Global]
Name = {name}
Info = a test
Listen = 127.0.0.1
Ports = {port}
ServerUID = {uid}
ServerGID = {gid}
MotdPhrase = "Hello"
{password}[Limits]
ConnectRetry = 5
MaxConnectionsIP = 0
MaxNickLength = 20
MaxPenaltyTime = 0
[Options]
DNS = no
Ident = no
PAM = no
"""
LINK = """\
[Server]
Name = {name}
Host = 127.0.0.1
Port = {port}
MyPassword = link
PeerPassword = link
Passive = {passive}
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


class Ircd:
    """A server, which can be killed, and begin again on the same port."""

    def __init__(self, folder: Path, name: str = "one.example.net", password: str = "") -> None:
        self.name = name
        self.port = free_port()
        self._path = folder / f"{name}.conf"
        self._text = CONFIG.format(
            name=name,
            port=self.port,
            uid=os.getuid(),
            gid=os.getgid(),
            password=f"Password = {password}\n" if password else "",
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._members: list[Member] = []

    def link(self, other: "Ircd", *, connects: bool) -> None:
        """Make both one network. One of them connects to the other."""
        passive = "no" if connects else "yes"
        self._text += LINK.format(name=other.name, port=other.port, passive=passive)

    async def begin(self) -> None:
        """Begin, and return when it accepts connections."""
        assert NGIRCD is not None, "ngircd is not installed (apt install ngircd)"
        self._path.write_text(self._text)
        command = [NGIRCD, "--nodaemon", "--config", str(self._path)]
        self._process = subprocess.Popen(  # noqa: ASYNC220, S603  it starts at once
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                assert self._process.poll() is None, "ngircd has ended"
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                return

    def kill(self) -> None:
        """End it at once, without a word to its clients; may be called twice."""
        self.disconnect_members()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE)

    async def join(self, nick: str, *channels: str) -> "Member":
        """A new member of these channels, by default of all."""
        connection = await asyncio.open_connection("127.0.0.1", self.port)
        self._members.append(member := Member(*connection))
        await member.join(nick, *channels or CHANNELS)
        return member

    def disconnect_members(self) -> None:
        """Close the connections of all members."""
        while self._members:
            self._members.pop().disconnect()

    def freeze(self) -> None:
        """Stop the process: its connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)


class Member:
    """A person in the channels."""

    def __init__(self, lines: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines = lines
        self._writer = writer

    async def join(self, nick: str, *channels: str) -> None:
        """Log in and join."""
        self.send(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        await self.until(" 001 ")
        for channel in channels:
            self.send(f"JOIN {channel}")
            await self.until(" 366 ")

    def send(self, *lines: str) -> None:
        """Send lines."""
        self._writer.writelines(f"{line}\r\n".encode() for line in lines)

    async def until(self, text: str) -> None:
        """Return when a line with that text has come."""
        async with asyncio.timeout(PATIENCE):
            while text not in (line := (await self._lines.readuntil(b"\n")).decode()):
                if line.startswith("PING"):
                    self.send(line.strip().replace("PING", "PONG"))

    def disconnect(self) -> None:
        """Close the connection."""
        self._writer.close()


@asynccontextmanager
async def running(ircd: Ircd) -> AsyncIterator[Ircd]:
    """Run the server until the end of the block."""
    await ircd.begin()
    try:
        yield ircd
    finally:
        ircd.kill()
