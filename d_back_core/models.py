"""The data model: servers, users, events, and which values are valid in them.

The records of a provider are *partial*. A field that is ``UNSET`` supplies nothing (in an event:
it did not change). A field that is ``None`` withdraws an earlier value, so that a lower layer
shows through. The effective structs at the end are complete.

msgspec structs do not check their fields on construction. :func:`checked` does, and the core
calls it on every record that a provider returns or yields.
"""

import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2s
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

import msgspec
from msgspec import Struct, UnsetType, structs

UNSET: Final = msgspec.UNSET
"""The value of a field that is not given: a record supplies nothing, an event changes nothing."""

Status: TypeAlias = Literal["online", "idle", "dnd", "offline"]
Text: TypeAlias = str | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None
Extra: TypeAlias = Mapping[str, str | None] | UnsetType | None
T = TypeVar("T")

STATUSES: frozenset[str] = frozenset(get_args(Status))
DEFAULT_STATUS: Status = "offline"
DEFAULT_ROLE_COLOR = "#ffffff"

PROTOTYPE_WORDS = frozenset(
    {
        "constructor",
        "toString",
        "valueOf",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    }
)
"""The members of JavaScript's ``Object.prototype``. Browser clients that use our texts as keys of
plain objects break on them, so they are neither valid ids nor sent as whole words of a text."""


class User(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """One provider's record of one user of one server. The key in the mapping is the uid."""

    username: Text = UNSET
    """Display name: any text that is not blank."""
    status: Status | UnsetType | None = UNSET
    role_color: Text = UNSET
    """``#rrggbb``: the colour of the user's highest role that has one."""
    extra: Extra = UNSET
    """Further texts by key, such as ``avatar``, ``activity``, ``pronouns``: at most 8 keys of
    letters, digits and ``_``, and 256 characters for each text. They merge key by key. Clients
    receive the keys that the operator names."""


class Server(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """One provider's record of one server. The key in the mapping is the server_id."""

    name: Text = UNSET
    """Display name: any text that is not blank. Default: the server_id."""
    id: Text = UNSET
    """The short public id, ``[A-Za-z0-9_-]{1,64}``. One is made from other texts; clients may join
    by either. Default: derived from the name."""
    default: Flag = UNSET
    """True: clients that name no server join this one. The highest provider's flag wins."""
    passworded: Flag = UNSET
    """True: a join must be authorized. It holds until this same provider returns ``False`` or
    ``None``, even if the provider fails in the meantime."""
    enabled: Flag = UNSET
    """``False`` hides the server, whatever other providers return."""
    client_id: Text = UNSET
    """The OAuth2 client id with which clients of this server log in."""


class UserChanged(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A user of the provider's own layer is new or has changed; ``UNSET`` fields have not."""

    server_id: str
    uid: str
    username: Text = UNSET
    status: Status | UnsetType | None = UNSET
    role_color: Text = UNSET
    extra: Extra = UNSET
    """All extra texts that the user has now; None: there are none."""


class UserRemoved(Struct, frozen=True, kw_only=True, gc=False):
    """A user has left the provider's own layer."""

    server_id: str
    uid: str


class Message(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A chat message. ``channel`` is the channel's id; a policy may use the id or the name."""

    server_id: str
    uid: str
    message: str
    channel: str
    channel_name: str | None = None
    id: str | None = None
    """The source's id of the message, unique in its channel. Without one it cannot be edited or
    deleted later."""
    at: datetime | None = None
    """When it was written, with a time zone."""


class MessageEdited(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A chat message has another text now. Without any text, it counts as deleted."""

    server_id: str
    uid: str
    message: str
    channel: str
    channel_name: str | None = None
    id: str
    at: datetime | None = None
    """When it was edited, with a time zone."""


class MessageDeleted(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A chat message is gone. If many are, yield one event for each: they leave together."""

    server_id: str
    channel: str
    channel_name: str | None = None
    id: str


Chat: TypeAlias = Message | MessageEdited | MessageDeleted


class ServerChanged(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A server of the provider's own list is new or has changed; ``UNSET`` fields have not."""

    server_id: str
    name: Text = UNSET
    id: Text = UNSET
    default: Flag = UNSET
    passworded: Flag = UNSET
    enabled: Flag = UNSET
    client_id: Text = UNSET


class ServerRemoved(Struct, frozen=True, kw_only=True, gc=False):
    """A server has left the provider's own list."""

    server_id: str


class Reload(Struct, frozen=True, kw_only=True, gc=False):
    """The provider may have missed events: fetch its layer of that server again (``None``: its
    list and every layer)."""

    server_id: str | None = None


class AccessRevoked(Struct, frozen=True, kw_only=True, gc=False):
    """A person whom the provider has let into a server by a `Grant` may not see it any more."""

    server_id: str
    person: str


Event: TypeAlias = (
    UserChanged
    | UserRemoved
    | Message
    | MessageEdited
    | MessageDeleted
    | ServerChanged
    | ServerRemoved
    | AccessRevoked
    | Reload
)


class Overlay(dict[str, T]):
    """An answer of `users` that does not keep the next fallback from answering as well.

    Its records lie over those of the next fallback, field by field, as in mode ``merge``. An
    empty one is held, too: later events of the provider apply to it.
    """


class UserSet(Struct, frozen=True, kw_only=True, gc=False):
    """For a recorder: a user is new or has changed; the record is complete."""

    server_id: str
    uid: str
    user: User


class ServerSet(Struct, frozen=True, kw_only=True, gc=False):
    """For a recorder: a server is new or has changed. ``server.id`` is the public id in use."""

    server_id: str
    server: Server


class Snapshot(Struct, frozen=True, kw_only=True):
    """For a recorder: these keys are all there are; delete every other one."""

    server_id: str | None
    """The server whose users these are. None: the list of servers."""
    keys: frozenset[str]
    """uids, or server_ids."""


class AccessChanged(Struct, frozen=True, kw_only=True, gc=False):
    """For a recorder that answers other processes with `Context.authorize`: access that it gave
    for that server may have ended."""

    server_id: str
    person: str | None = None
    """This one has ended: the ``person`` of its `Grant`. None: any may have, as the operator's
    rules have changed; ask `Context.reauthorize`."""


Change: TypeAlias = (
    UserSet
    | UserRemoved
    | ServerSet
    | ServerRemoved
    | Snapshot
    | Message
    | MessageEdited
    | MessageDeleted
    | AccessChanged
)
"""What a recorder receives."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a client sends to prove who it is. The repr shows which fields are set, no values."""

    password: str | None = None
    discord_token: str | None = None
    discord_user: Mapping[str, object] | None = None
    """The Discord user that the client claims to be; nothing in it is verified."""

    def __repr__(self) -> str:
        offered = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        return f"Credentials({', '.join(f'{name}=***' for name in offered)})"


NO_EXTRA: Mapping[str, str] = MappingProxyType({})
MAX_EXTRA = 8
"""Extra texts of one user."""
MAX_EXTRA_LENGTH = 256
GRANT_LASTS = 600.0


class Grant(Struct, frozen=True, kw_only=True, gc=False):
    """A yes of `authorize` that names the person, so that the access can end.

    It ends with an `AccessRevoked` of the same provider. It is renewed by `reauthorize`; without
    that it expires.
    """

    person: str
    """The provider's own id of the person: 1 to 64 printable ASCII characters without spaces."""
    expires_after: float = GRANT_LASTS
    """Seconds for which it is valid without being renewed; ten minutes at most."""


class EffectiveUser(Struct, frozen=True, gc=False):
    """A user after merge, defaults and policy."""

    uid: str
    username: str
    status: Status
    role_color: str

    @property
    def extra(self) -> Mapping[str, str]:
        """The extra texts that clients see."""
        return NO_EXTRA


class EffectiveUserWithExtra(EffectiveUser, frozen=True, gc=False):
    """A user with extra texts: a class of its own, so that others need no memory for them."""

    extra: Mapping[str, str]


def effective_user(
    uid: str, username: str, status: Status, role_color: str, extra: Mapping[str, str]
) -> EffectiveUser:
    """Return a user, with extra texts if there are any."""
    if extra:
        return EffectiveUserWithExtra(uid, username, status, role_color, extra)
    return EffectiveUser(uid, username, status, role_color)


class EffectiveServer(Struct, frozen=True, kw_only=True, gc=False):
    """A server after merge, defaults and policy, as clients see it."""

    server_id: str
    public_id: str
    name: str
    default: bool
    passworded: bool
    client_id: str | None = None
    spelling: str | None = None
    """The id that a provider gave, if it is not the public id; clients may join by it."""


ID = re.compile(r"[!-~]{1,64}")
PUBLIC_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GIVEN_ID = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,100}")
EXTRA_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
ROLE_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
"""These are also in the schemas of the wire: they mean the same in JavaScript."""
SNOWFLAKE_BITS = 64


def is_id(value: object) -> bool:
    """True if the value can be a uid, a server_id or a channel: 1 to 64 printable ASCII
    characters without spaces, and not a member of JavaScript's ``Object.prototype``."""
    return (
        isinstance(value, str)
        and ID.fullmatch(value) is not None
        # A derived class may hash and compare otherwise.
        and (value if type(value) is str else plain(value)) not in PROTOTYPE_WORDS
    )


def is_public_id(value: object) -> bool:
    """True if the value can be a public id; clients put it into URLs without escaping it."""
    return is_id(value) and PUBLIC_ID.fullmatch(str(value)) is not None


def is_given_id(value: str) -> bool:
    """True if a provider can give a server this id, from which a public id may have to be made: up
    to 100 characters of one line."""
    fits = is_text(value) and _GIVEN_ID.fullmatch(value) is not None
    return fits and value not in PROTOTYPE_WORDS


def is_extra_key(value: object) -> bool:
    """True if the value can be a key of ``extra``; browser clients use it as a property."""
    return is_id(value) and EXTRA_KEY.fullmatch(str(value)) is not None


def is_text(value: object) -> bool:
    """True if the value can be shown: not blank, and encodable (no lone surrogates)."""
    if not isinstance(value, str) or not value.strip():
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def channel_id(channel: object, kind: str = "channel") -> str:
    """Return the channel as a valid id; a valid one stays as it is, others are hashed. As well
    for the id of another ``kind``."""
    if isinstance(channel, int):  # hex: Python refuses to print thousands of digits
        channel = str(channel) if channel.bit_length() <= SNOWFLAKE_BITS else hex(channel)
    if is_id(channel):
        return str(channel)
    digest = blake2s(str(channel).encode(errors="surrogatepass"), digest_size=8)
    return f"{kind}-{digest.hexdigest()}"


def deletion_of(edited: MessageEdited) -> MessageDeleted:
    """Return the deletion of the message that is edited."""
    return MessageDeleted(
        server_id=edited.server_id,
        channel=edited.channel,
        channel_name=edited.channel_name,
        id=edited.id,
    )


def moment(value: object) -> datetime | None:
    """Return the time in UTC, in whole milliseconds; None if it has no time zone or is not a
    time."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return None
    try:
        utc = value.astimezone(UTC)
    except OverflowError:  # before the year 1, or after 9999
        return None
    # A plain one: a class derived from `datetime` may not be encodable.
    seconds = (utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)
    return datetime(*seconds, utc.microsecond // 1000 * 1000, tzinfo=UTC)


def _is_status(value: object) -> bool:
    return isinstance(value, str) and plain(value) in STATUSES


def _is_role_color(value: object) -> bool:
    return isinstance(value, str) and ROLE_COLOR.fullmatch(value) is not None


_FLAGS: dict[object, bool] = {
    **dict.fromkeys((0, "0", "f", "false", "n", "no", "off"), False),
    **dict.fromkeys((1, "1", "t", "true", "y", "yes", "on"), True),
}
"""How databases and files spell booleans; texts are compared in lower case."""

GUARDS = {"passworded": True, "enabled": False}
"""Flags that protect a server → the value to assume if a provider's value cannot be read."""


def _flag(value: object) -> bool | None:
    """Return the flag that the value spells; None if it spells none."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _FLAGS.get(plain(value).strip().lower())
    return _FLAGS.get(int(value)) if isinstance(value, int) else None


_CHECKS: dict[str, Callable[[object], bool]] = {
    "username": is_text,
    "status": _is_status,
    "role_color": _is_role_color,
    "name": is_text,
    "id": is_text,
    "client_id": is_id,
}
_FLAG_FIELDS = frozenset({"default", "passworded", "enabled"})
_REPEATED = frozenset({"status", "role_color"})
"""Fields whose values are shared between records."""

_KINDS: tuple[type[Any], ...] = (User, Server, *get_args(Event))

Record = TypeVar("Record", bound=User | Server | Event)
Report: TypeAlias = Callable[[str, object], None]
"""Called for each rejected value with its path (``users.status``) and the value."""


def checked(record: Record, path: str, report: Report) -> Record:
    """Return the record without its invalid fields: they count as not supplied.

    Subclasses of our structs and of ``str`` are converted, since they cannot be encoded. Flags
    are also read as databases spell them (0, 1, "t", "f"). A guard that cannot be read fails
    closed: ``passworded`` becomes True, ``enabled`` False.
    """
    changed: dict[str, object] = {}
    # A message's id is of another kind than that of a server.
    checks = {} if isinstance(record, Chat) else _CHECKS
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if value is UNSET or value is None:
            continue
        if name in checks:
            if not checks[name](value):
                report(f"{path}.{name}", value)
                changed[name] = UNSET
            elif type(value) is not str:
                changed[name] = plain(value)
            else:
                _share(record, name, value)
        elif name in _FLAG_FIELDS:
            changed[name] = _checked_flag(name, value, path, report)
        elif name == "extra":
            changed[name] = _checked_extra(value, path, report)
        elif isinstance(value, str) and type(value) is not str:
            changed[name] = plain(value)
    if type(record) not in _KINDS:
        kind = next(kind for kind in _KINDS if isinstance(record, kind))
        whole = {name: getattr(record, name) for name in kind.__struct_fields__}
        converted: Record = kind(**whole | changed)
        return converted
    return structs.replace(record, **changed) if changed else record


def is_usual(user: object) -> bool:
    """True if the user is as `checked` would return it, as almost all are; False says nothing.

    A list may have 100,000 users: this takes a fifth of the time of the checks by field.
    """
    if type(user) is not User:
        return False
    status, color = user.status, user.role_color
    if user.extra is not UNSET or not is_text(user.username) or type(user.username) is not str:
        return False
    if type(status) is not str or not (type(color) is str or color is UNSET):
        return False
    shared = _shared_texts(status, color)
    if shared is None:
        return False
    if shared[0] is not status or shared[1] is not color:
        structs.force_setattr(user, "status", shared[0])
        structs.force_setattr(user, "role_color", shared[1])
    return True


@lru_cache(maxsize=4096)
def _shared_texts(status: str, color: str | UnsetType) -> tuple[str, str | UnsetType] | None:
    """Return the copies that all users share; None if one is invalid."""
    if status not in STATUSES or not (color is UNSET or _is_role_color(color)):
        return None
    return sys.intern(status), color if color is UNSET else sys.intern(color)


def _share(record: Struct, name: str, text: str) -> None:
    """Keep one copy of a text that many users have: most decoders make a copy for each."""
    if name in _REPEATED:
        structs.force_setattr(record, name, sys.intern(text))


def _checked_flag(name: str, value: object, path: str, report: Report) -> object:
    flag = _flag(value)
    if flag is None:
        report(f"{path}.{name}", value)
        return GUARDS.get(name, UNSET)
    return flag


def _checked_extra(extra: object, path: str, report: Report) -> Extra:
    """Return a copy with the valid texts, ``MAX_EXTRA`` at most; None if there are none."""
    if not isinstance(extra, Mapping):
        report(f"{path}.extra", extra)
        return UNSET
    texts: dict[str, str] = {}
    for key, value in extra.items():
        fits = is_text(value) and len(value) <= MAX_EXTRA_LENGTH and len(texts) < MAX_EXTRA
        if fits and is_extra_key(key):
            texts[sys.intern(plain(key))] = plain(value)
        elif value is not None:
            report(f"{path}.extra", {key: value})
    return texts or None


def plain(text: str) -> str:
    """Return the text as a plain ``str``, also if its class is derived from ``str``."""
    return text if type(text) is str else str.__str__(text)
