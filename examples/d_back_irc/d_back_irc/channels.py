"""Who is in the channels, and what follows from a message of the server.

The state changes before the events are yielded, so that ``users`` and ``events`` agree.
"""

import re
from collections.abc import Collection, Iterator

from irclib.parser import Message
from irclib.util.string import ASCII, RFC1459, STRICT_RFC1459, Casemap

from d_back_core import Event, User, UserChanged, UserRemoved
from d_back_core import Message as Chat
from d_back_irc.connection import ConnectionLostError

CASE_MAPPINGS = {"ascii": ASCII, "rfc1459": RFC1459, "rfc1459-strict": STRICT_RFC1459}
PREFIXES = "~&@%+"
"""What the server puts before the nick of an operator, and so on."""
FORMATTING = re.compile(r"\x03(\d{1,2}(,\d{1,2})?)?|\x04[0-9A-Fa-f]{0,6}|[\x00-\x1f\x7f]")
ACTION = "\x01ACTION "
REFUSALS = {"403", "405", "471", "473", "474", "475", "476", "477", "489"}
"""Answers to JOIN: there is no such channel, it is full, a key or an invitation is needed, …"""


class Channels:
    """The members of some channels, as one server of d-back.

    A uid is the nick in lower case: a person who takes another nick is another user.
    """

    def __init__(self, server_id: str, channels: Collection[str]) -> None:
        self.nick = ""
        """Our own nick, which is not shown."""
        self._server_id = server_id
        self._channels = channels
        self._nicks: dict[str, str] = {}
        """uid → nick."""
        self._members: dict[str, set[str]] = {}
        """The channel in lower case → uids."""
        self._use(RFC1459)

    @property
    def are_complete(self) -> bool:
        """True when the members of every channel are known."""
        return not self._missing

    def users(self) -> dict[str, User]:
        """Return everyone who is in a channel."""
        return {uid: User(username=nick, status="online") for uid, nick in self._nicks.items()}

    def apply(self, message: Message) -> list[Event]:
        """Change the state by a message, and return what has changed. Raises
        `ConnectionLostError` if we are not in a channel any more."""
        nick = message.prefix.nick if message.prefix is not None else ""
        match message.command, [*message.parameters]:
            case "JOIN", [channels, *_]:
                return [*self._joined(nick, channels)]
            case "PART", [channels, *_]:
                return [*self._left(nick, channels)]
            case "KICK", [channel, kicked, *_]:
                return [*self._left(kicked, channel)]
            case "QUIT", _:
                return [*self._left(nick, ",".join(self._members))]
            case "NICK", [renamed, *_]:
                return [*self._renamed(nick, renamed)]
            case "PRIVMSG", [target, text]:
                return [*self._said(nick, target, text)]
            case code, parameters if code.isdecimal():
                return [*self._answered(code, parameters)]
        return []

    def _joined(self, nick: str, channels: str) -> Iterator[Event]:
        uid = self._uid(nick)
        for members in self._named(channels):
            if uid == self._uid(self.nick):
                continue
            members.add(uid)
            if uid not in self._nicks:
                self._nicks[uid] = nick
                yield self._present(uid)

    def _left(self, nick: str, channels: str) -> Iterator[Event]:
        uid = self._uid(nick)
        if uid == self._uid(self.nick):
            raise ConnectionLostError(f"we were removed from {channels}")
        for members in self._named(channels):
            members.discard(uid)
        if uid in self._nicks and not any(uid in each for each in self._members.values()):
            del self._nicks[uid]
            yield UserRemoved(server_id=self._server_id, uid=uid)

    def _renamed(self, old: str, new: str) -> Iterator[Event]:
        before, after = self._uid(old), self._uid(new)
        if before == self._uid(self.nick):
            self.nick = new
            return
        if self._nicks.pop(before, None) is None:
            return
        self._nicks[after] = new
        for members in self._members.values():
            if before in members:
                members.remove(before)
                members.add(after)
        if before != after:  # else only the case has changed
            yield UserRemoved(server_id=self._server_id, uid=before)
        yield self._present(after)

    def _said(self, nick: str, target: str, text: str) -> Iterator[Event]:
        uid, channel = self._uid(nick), self._lowered(target)
        said = FORMATTING.sub("", text.removeprefix(ACTION))
        is_request = text.startswith("\x01") and not text.startswith(ACTION)
        if uid in self._nicks and channel in self._members and said.strip() and not is_request:
            yield Chat(server_id=self._server_id, uid=uid, message=said, channel=channel)

    def _answered(self, code: str, parameters: list[str]) -> Iterator[Event]:
        match code, parameters:
            case "005", [_, *tokens]:
                names = [each.removeprefix("CASEMAPPING=") for each in tokens]
                self._use(*(CASE_MAPPINGS[each] for each in names if each in CASE_MAPPINGS))
            case "353", [_, _, channel, nicks]:  # NAMES
                for each in nicks.split():
                    yield from self._joined(each.lstrip(PREFIXES), channel)
            case "366", [_, channel, *_]:  # the end of NAMES
                self._missing.discard(self._lowered(channel))
            case _, [_, channel, *_, reason] if code in REFUSALS:
                raise ConnectionLostError(f"{channel}: {reason}")

    def _use(self, *case_mapping: Casemap) -> None:
        """Compare names as the server does. It says so before it answers JOIN."""
        for each in case_mapping:
            self._lower = each.lower_table
            self._members = {self._lowered(name): set() for name in self._channels}
            self._missing = set(self._members)

    def _lowered(self, name: str) -> str:
        return name.translate(self._lower)

    _uid = _lowered

    def _named(self, channels: str) -> Iterator[set[str]]:
        for name in map(self._lowered, channels.split(",")):
            if name in self._members:
                yield self._members[name]

    def _present(self, uid: str) -> Event:
        nick = self._nicks[uid]
        return UserChanged(server_id=self._server_id, uid=uid, username=nick, status="online")
