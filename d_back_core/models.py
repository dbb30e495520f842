"""What the core talks about: servers, users, events, and what is valid in them.

Records that a provider gives are *partial*: a field that is ``UNSET`` says nothing (in an
event: it did not change), a field that is ``None`` takes back what was said before, so that
a layer below shows through. The effective structs at the end are complete.

msgspec structs do not check their fields on construction; :func:`checked` does, and the core
calls it on every record that comes from other people's code.
"""

import re
from collections.abc import Callable, Mapping
from hashlib import blake2s
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from msgspec import UNSET, Struct, UnsetType, structs

Status: TypeAlias = Literal["online", "idle", "dnd", "offline"]
Text: TypeAlias = str | UnsetType | None
Flag: TypeAlias = bool | UnsetType | None

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
"""The members of JavaScript's ``Object.prototype``: browser clients that key plain objects by
what we send break on them, so they are neither ids nor whole words of a text."""


class User(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """What one provider says about one user of one server. The mapping's key is the uid."""

    username: Text = UNSET
    """The name to show: any text that is not blank."""
    status: Status | UnsetType | None = UNSET
    role_color: Text = UNSET
    """``#rrggbb``, the colour of the user's highest coloured role."""


class Server(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """What one provider says about one server. The mapping's key is the server_id."""

    name: Text = UNSET
    """The name to show: any text that is not blank; without one it is the server_id."""
    id: Text = UNSET
    """The short public id, ``[A-Za-z0-9_-]{1,64}``; without one it is derived from the name."""
    default: Flag = UNSET
    """Whether clients that name no server come here; the highest provider's flag wins."""
    passworded: Flag = UNSET
    """Whether a join must be authorized. Once said, it holds until this same provider says
    ``False`` or ``None``, whatever happens to the provider meanwhile."""
    enabled: Flag = UNSET
    """``False`` takes the server away, whatever other providers say."""


class UserChanged(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A user of the provider's own layer is new or changed; ``UNSET`` fields are unchanged."""

    server_id: str
    uid: str
    username: Text = UNSET
    status: Status | UnsetType | None = UNSET
    role_color: Text = UNSET


class UserRemoved(Struct, frozen=True, kw_only=True, gc=False):
    """A user is no longer in the provider's own layer."""

    server_id: str
    uid: str


class Message(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A chat message. ``channel`` is the channel's id; policies may name either."""

    server_id: str
    uid: str
    message: str
    channel: str
    channel_name: str | None = None


class ServerChanged(Struct, frozen=True, kw_only=True, gc=False, repr_omit_defaults=True):
    """A server of the provider's own list is new or changed; ``UNSET`` fields are unchanged."""

    server_id: str
    name: Text = UNSET
    id: Text = UNSET
    default: Flag = UNSET
    passworded: Flag = UNSET
    enabled: Flag = UNSET


class ServerRemoved(Struct, frozen=True, kw_only=True, gc=False):
    """A server is no longer in the provider's own list."""

    server_id: str


class ClientIdChanged(Struct, frozen=True, kw_only=True, gc=False):
    """The OAuth2 client id of a server changed; ``None`` takes it back."""

    server_id: str
    client_id: str | None


class Reload(Struct, frozen=True, kw_only=True, gc=False):
    """The provider lost continuity: its layer of that server (``None``: its list and every
    layer) is to be fetched again."""

    server_id: str | None = None


Event: TypeAlias = (
    UserChanged | UserRemoved | Message | ServerChanged | ServerRemoved | ClientIdChanged | Reload
)


class UserSet(Struct, frozen=True, kw_only=True, gc=False):
    """To a recorder: a user is new or changed; the record is all that is said of it."""

    server_id: str
    uid: str
    user: User


class ServerSet(Struct, frozen=True, kw_only=True, gc=False):
    """To a recorder: a server is new or changed. ``server.id`` is the public id in use."""

    server_id: str
    server: Server


class Snapshot(Struct, frozen=True, kw_only=True):
    """To a recorder: these are all; whatever else is remembered is gone."""

    server_id: str | None
    """The server whose users these are; None: the list of servers."""
    keys: frozenset[str]
    """uids, or server_ids."""


Change: TypeAlias = (
    UserSet | UserRemoved | ServerSet | ServerRemoved | ClientIdChanged | Snapshot | Message
)
"""What a recorder is given."""


class Credentials(Struct, frozen=True, kw_only=True):
    """What a client offers when it joins. Never printed: the repr shows only what is there."""

    password: str | None = None
    discord_token: str | None = None
    discord_user: Mapping[str, object] | None = None
    """As the client claims it; nothing in it is verified."""

    def __repr__(self) -> str:
        offered = [name for name in self.__struct_fields__ if getattr(self, name) is not None]
        return f"Credentials({', '.join(f'{name}=***' for name in offered)})"


class EffectiveUser(Struct, frozen=True, gc=False):
    """A user after the merge, the defaults and the policy."""

    uid: str
    username: str
    status: Status
    role_color: str


class EffectiveServer(Struct, frozen=True, kw_only=True, gc=False):
    """A server after the merge, the defaults and the policy, as clients know it."""

    server_id: str
    public_id: str
    name: str
    default: bool
    passworded: bool


_ID = re.compile(r"[!-~]{1,64}")
_PUBLIC_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROLE_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
SNOWFLAKE_BITS = 64


def is_id(value: object) -> bool:
    """Whether it can be a uid, a server_id or a channel: 1 to 64 printable ASCII characters
    without spaces, and no member of JavaScript's ``Object.prototype``."""
    return (
        isinstance(value, str)
        and _ID.fullmatch(value) is not None
        and plain(value) not in PROTOTYPE_WORDS  # a derived class may hash and compare otherwise
    )


def is_public_id(value: object) -> bool:
    """Whether it can be a server's short public id (it goes into URLs unescaped)."""
    return is_id(value) and _PUBLIC_ID.fullmatch(str(value)) is not None


def is_text(value: object) -> bool:
    """Whether it can be shown: not blank, and encodable (no lone surrogates)."""
    if not isinstance(value, str) or not value.strip():
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def channel_id(channel: object) -> str:
    """Any channel as an id that is fit for the wire; a fit one stays as it is."""
    if isinstance(channel, int):  # hex: Python refuses to print thousands of digits
        channel = str(channel) if channel.bit_length() <= SNOWFLAKE_BITS else hex(channel)
    if is_id(channel):
        return str(channel)
    digest = blake2s(str(channel).encode(errors="surrogatepass"), digest_size=8)
    return f"channel-{digest.hexdigest()}"


def _is_status(value: object) -> bool:
    return isinstance(value, str) and plain(value) in STATUSES


def _is_role_color(value: object) -> bool:
    return isinstance(value, str) and _ROLE_COLOR.fullmatch(value) is not None


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


_CHECKS: dict[str, Callable[[object], bool]] = {
    "username": is_text,
    "status": _is_status,
    "role_color": _is_role_color,
    "name": is_text,
    "id": is_public_id,
    "default": _is_flag,
    "passworded": _is_flag,
    "enabled": _is_flag,
}

_KINDS: tuple[type[Any], ...] = (User, Server, *get_args(Event))

Record = TypeVar("Record", bound=User | Server | Event)
Report: TypeAlias = Callable[[str, object], None]
"""Told of each refused value: its path (``users.status``) and the value."""


def checked(record: Record, path: str, report: Report) -> Record:
    """The record without the fields that are not valid: those count as not supplied. Classes
    that are derived from ours or from ``str`` are resolved: they could not be encoded.

    One exception, for safety: a ``passworded`` that is no boolean counts as ``True``.
    """
    changed: dict[str, object] = {}
    for name in record.__struct_fields__:
        value = getattr(record, name)
        if value is UNSET or value is None:
            continue
        check = _CHECKS.get(name)
        if check is not None and not check(value):
            report(f"{path}.{name}", value)
            changed[name] = True if name == "passworded" else UNSET
        elif isinstance(value, str):
            text = plain(value)
            if text is not value:
                changed[name] = text
    if type(record) not in _KINDS:
        kind = next(kind for kind in _KINDS if isinstance(record, kind))
        whole = {name: getattr(record, name) for name in kind.__struct_fields__}
        resolved: Record = kind(**whole | changed)
        return resolved
    return structs.replace(record, **changed) if changed else record


def plain(text: str) -> str:
    """The text without the class that somebody may have derived from ``str``."""
    return text if type(text) is str else str.__str__(text)
