"""The wire protocol: client messages decoded to structs, server messages encoded to JSON.

The only module that knows the wire's camelCase. ``docs/en/protocol.md`` describes the messages;
the JSON Schema is generated from the structs. The base is what d-zone and d-back 0.0.18 speak:
fields may be added, never changed.

d-zone freezes if a name or a chat message contains a member of JavaScript's ``Object.prototype``
as a word (``constructor``). `defused` breaks such words up in every text that d-zone shows.

An event is encoded once, whatever the number of clients. The users of a snapshot are encoded
apart from its head: they are cached, and the head (``seq``, client id) is not.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from d_back_core.chain.world import ChatCleared, Presence, Removal, World, WorldChange
from d_back_core.errors import ErrorCode, JoinError
from d_back_core.models import (
    PROTOTYPE_WORDS,
    EffectiveServer,
    EffectiveUser,
    Message,
    MessageDeleted,
    MessageEdited,
)

UNKNOWN_SERVER = "Sorry, couldn't connect to that Discord server."
UNAUTHORIZED = "This server requires Discord authentication. Please login with Discord."
PASSWORD_REQUIRED = "This server requires a password."  # noqa: S105  a text
PASSWORD_OR_LOGIN = "This server requires a password, or a login with Discord."  # noqa: S105  a text
CLOSED = "This server is closed: no client can join it."
AUTHENTICATION_FAILED = "Discord authentication failed. Please try logging in again."


class Resume(Struct, frozen=True, kw_only=True):
    """The state of a client that reconnects: its epoch and the last ``seq`` it received."""

    epoch: str
    seq: int


class ConnectRequest(Struct, frozen=True, kw_only=True, rename="camel"):
    """``connect.data``: the server to join, and the credentials."""

    server: str | None = None
    password: str | None = None
    discord_token: str | None = None
    discord_user: dict[str, Any] | None = None
    resume: Resume | None = None

    def __repr__(self) -> str:
        return f"ConnectRequest(server={self.server!r})"


class Connect(Struct, frozen=True, kw_only=True, tag="connect"):
    """Join a server; ends the current subscription."""

    data: ConnectRequest | None = None


class GetUserData(Struct, frozen=True, kw_only=True, tag="get_user_data", rename="camel"):
    """Ask for the users of a server once."""

    server_id: str


class GetServerData(Struct, frozen=True, kw_only=True, tag="get_server_data", rename="camel"):
    """Ask for all servers, or one of them, once."""

    server_id: str | None = None


ClientMessage: TypeAlias = Connect | GetUserData | GetServerData
_TYPES = frozenset({"connect", "get_user_data", "get_server_data"})


class _Type(Struct):
    type: str


_syntax_decoder = msgspec.json.Decoder(msgspec.Raw)
_type_decoder = msgspec.json.Decoder(_Type)
_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(
    Connect | GetUserData | GetServerData
)


def decode(frame: str | bytes) -> ClientMessage:
    """Decode a client's message, which may be binary; raises `JoinError` for anything that is
    wrong with it."""
    if isinstance(frame, bytes):
        try:
            frame = frame.decode()
        except UnicodeDecodeError:
            raise JoinError("invalid_encoding", "Invalid binary encoding") from None
    try:
        # All of the syntax first: the typed decoders stop at the first wrong type, and broken
        # JSON behind it would be reported as a wrong message.
        _syntax_decoder.decode(frame)
        kind = _type_decoder.decode(frame).type
    except msgspec.ValidationError:  # JSON, but not an object with a string ``type``
        raise JoinError("unknown_type", "Unknown event type") from None
    except (msgspec.DecodeError, RecursionError):
        raise JoinError("invalid_json", "Invalid JSON") from None
    if kind not in _TYPES:
        raise JoinError("unknown_type", "Unknown event type")
    try:
        return _decoder.decode(frame)
    except msgspec.ValidationError as error:
        raise JoinError("invalid_message", f"Invalid message: {error}") from None
    except RecursionError:
        raise JoinError("invalid_json", "Invalid JSON") from None


class WireServer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A server in ``server-list``."""

    id: str
    name: str
    default: bool | UnsetType = UNSET
    passworded: bool


class WireUser(Struct, frozen=True, rename="camel", gc=False):
    """A user in ``server-join`` and ``user_data``."""

    uid: str
    username: str
    status: str
    role_color: str
    extra: Mapping[str, str] | UnsetType = UNSET
    """Further texts by key; only keys that the operator has named."""


class WirePresence(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """``presence.data``: always the status; the other fields only if they changed."""

    uid: str
    status: str
    username: str | UnsetType = UNSET
    role_color: str | UnsetType = UNSET
    extra: Mapping[str, str | None] | UnsetType = UNSET
    """The texts that changed; null: the text is gone."""
    delete: Literal[True] | UnsetType = UNSET


class WireMessage(Struct, frozen=True, kw_only=True, gc=False):
    """``message.data``."""

    uid: str
    message: str
    channel: str
    id: str | UnsetType = UNSET
    """Identifies the message in its channel, if it can be edited or deleted."""
    at: datetime | UnsetType = UNSET
    """When it was written: a time of RFC 3339, in UTC."""


class WireMessageEdit(Struct, frozen=True, kw_only=True, gc=False):
    """``message-edit.data``."""

    uid: str
    message: str
    channel: str
    id: str
    at: datetime | UnsetType = UNSET
    """When it was edited."""


class WireMessageDelete(Struct, frozen=True, kw_only=True, gc=False):
    """``message-delete.data``. Without an id: all messages that the client has and that have one,
    since too many were deleted while it read too slowly."""

    id: str | UnsetType = UNSET
    channel: str | UnsetType = UNSET


class ServerList(Struct, frozen=True, kw_only=True, tag="server-list"):
    """The first message of every connection, sent once: server_id → server."""

    data: dict[str, WireServer]


class ServerListUpdate(Struct, frozen=True, kw_only=True, tag="server-list-update"):
    """The list has changed: the servers that are new or changed, and those that are gone."""

    data: dict[str, WireServer]
    removed: list[str] | UnsetType = UNSET
    """server_ids."""


class Request(Struct, frozen=True, kw_only=True):
    """The server that was joined, by its public id, also if the client asked for the default."""

    server: str


class Joined(Struct, frozen=True, kw_only=True, rename="camel"):
    """``server-join.data``: all users of the server, at ``seq`` of this ``epoch``."""

    request: Request
    server_name: str
    client_id: str | UnsetType = UNSET
    epoch: str
    seq: int
    users: dict[str, WireUser]


class ServerJoin(Struct, frozen=True, kw_only=True, tag="server-join"):
    """The answer to ``connect``; deltas follow from ``seq`` on."""

    data: Joined


class Resumed(Struct, frozen=True, kw_only=True, tag="resumed"):
    """The client's copy is valid at ``seq``, and deltas follow from there.

    The answer to ``connect`` with ``resume``. Also sent to a client that read too slowly, if
    nothing of what it missed matters any more.
    """

    server: str
    epoch: str
    seq: int


class PresenceFrame(Struct, frozen=True, kw_only=True, tag="presence"):
    """A user came, changed, or (with ``delete``) left."""

    server: str
    seq: int
    resync: Literal[True] | UnsetType = UNSET
    """The client read too slowly: this frame and the next ones with the same ``seq`` bring it up
    to date."""
    data: WirePresence


class MessageFrame(Struct, frozen=True, kw_only=True, tag="message"):
    """A user wrote a chat message."""

    server: str
    seq: int
    resync: Literal[True] | UnsetType = UNSET
    """As in ``presence``."""
    data: WireMessage


class MessageEditFrame(Struct, frozen=True, kw_only=True, tag="message-edit"):
    """A chat message has another text now. Ignore it if the message is not there."""

    server: str
    seq: int
    resync: Literal[True] | UnsetType = UNSET
    """As in ``presence``."""
    data: WireMessageEdit


class MessageDeleteFrame(Struct, frozen=True, kw_only=True, tag="message-delete"):
    """A chat message is gone. Ignore it if the message is not there."""

    server: str
    seq: int
    resync: Literal[True] | UnsetType = UNSET
    """As in ``presence``."""
    data: WireMessageDelete


class ClientId(Struct, frozen=True, kw_only=True, rename="camel"):
    """``update-clientid.data``."""

    client_id: str | None


class UpdateClientId(Struct, frozen=True, kw_only=True, tag="update-clientid"):
    """The OAuth2 client id of the server changed."""

    server: str
    data: ClientId


class RefreshData(Struct, frozen=True, kw_only=True, tag="refresh_data", rename="camel"):
    """All data of the server (without an id: of every server) was fetched again."""

    server_id: str | UnsetType = UNSET


class ErrorReason(Struct, frozen=True, kw_only=True):
    """``error.data``: a sentence for people and a code for programs."""

    message: str
    code: Annotated[str, Meta(extra_json_schema={"examples": list(get_args(ErrorCode))})]


class Error(Struct, frozen=True, kw_only=True, tag="error"):
    """A request was refused, or the subscription has ended."""

    data: ErrorReason


class UserData(Struct, frozen=True, kw_only=True, tag="user_data", rename="camel"):
    """The answer to ``get_user_data``."""

    server_id: str
    users: dict[str, WireUser]


class ServerData(Struct, frozen=True, kw_only=True, tag="server_data"):
    """The answer to ``get_server_data``: server_id → server."""

    servers: dict[str, WireServer]


ServerMessage: TypeAlias = (
    ServerList
    | ServerListUpdate
    | ServerJoin
    | Resumed
    | PresenceFrame
    | MessageFrame
    | MessageEditFrame
    | MessageDeleteFrame
    | UpdateClientId
    | RefreshData
    | Error
    | UserData
    | ServerData
)

_encoder = msgspec.json.Encoder()
_dangerous = re.compile(
    rf"(?<!\S)({'|'.join(sorted(map(re.escape, PROTOTYPE_WORDS)))})(?!\S)", re.ASCII
)


def defused(text: str) -> str:
    """Return the text with U+200B behind each word that would freeze d-zone."""
    return _dangerous.sub("\\1\u200b", text)


def server_list(servers: Iterable[EffectiveServer]) -> bytes:
    """Encode ``server-list``."""
    return _encoder.encode(ServerList(data=_servers(servers)))


def server_list_update(
    before: Mapping[str, EffectiveServer], now: Mapping[str, EffectiveServer]
) -> bytes | None:
    """Encode ``server-list-update``; None if clients see no difference."""
    former, present = _servers(before.values()), _servers(now.values())
    changed = {key: server for key, server in present.items() if former.get(key) != server}
    removed = [key for key in former if key not in present]
    if not changed and not removed:
        return None
    return _encoder.encode(ServerListUpdate(data=changed, removed=removed or UNSET))


JOIN_END = b"}}"
"""The end of a ``server-join``, after its users."""
USER_DATA_END = b"}"
"""The end of a ``user_data``, after its users."""


def join_head(server: EffectiveServer, epoch: str, seq: int) -> bytes:
    """Encode the beginning of a ``server-join``, up to its users."""
    joined = Joined(
        request=Request(server=server.public_id),
        server_name=defused(server.name),
        client_id=server.client_id or UNSET,
        epoch=epoch,
        seq=seq,
        users={},
    )
    return _encoder.encode(ServerJoin(data=joined)).removesuffix(b"{}" + JOIN_END)


def user_data_head(server_id: str) -> bytes:
    """Encode the beginning of a ``user_data``, up to its users."""
    head = _encoder.encode(UserData(server_id=server_id, users={}))
    return head.removesuffix(b"{}" + USER_DATA_END)


def users_json(users: Sequence[EffectiveUser]) -> bytes:
    """Encode the users of a ``server-join`` or ``user_data``, without the braces around them."""
    # One search in all names is cheaper than `defused` for each name, and almost always finds
    # nothing: then encoding takes a third of the time.
    names = "\n".join([user.username for user in users])
    if any(word in names for word in PROTOTYPE_WORDS):
        return _encoder.encode(_users(users))[1:-1]
    harmless = {
        user.uid: WireUser(
            user.uid, user.username, user.status, user.role_color, user.extra or UNSET
        )
        for user in users
    }
    return _encoder.encode(harmless)[1:-1]


def resumed(world: World, seq: int) -> bytes:
    """Encode ``resumed``: the client's copy is valid at ``seq``."""
    return _encoder.encode(Resumed(server=world.server_id, epoch=world.epoch, seq=seq))


def delta(server_id: str, seq: int, change: WorldChange, *, resync: bool = False) -> bytes:
    """Encode a delta as ``presence``, ``message``, ``message-edit`` or ``message-delete``."""
    first: Literal[True] | UnsetType = True if resync else UNSET
    match change:
        case Message():
            message = WireMessage(
                uid=change.uid,
                message=defused(change.message),
                channel=change.channel,
                id=change.id or UNSET,
                at=change.at or UNSET,
            )
            return _encoder.encode(
                MessageFrame(server=server_id, seq=seq, resync=first, data=message)
            )
        case MessageEdited():
            edit = WireMessageEdit(
                uid=change.uid,
                message=defused(change.message),
                channel=change.channel,
                id=change.id,
                at=change.at or UNSET,
            )
            return _encoder.encode(
                MessageEditFrame(server=server_id, seq=seq, resync=first, data=edit)
            )
        case MessageDeleted() | ChatCleared():
            gone = WireMessageDelete()
            if isinstance(change, MessageDeleted):
                gone = WireMessageDelete(id=change.id, channel=change.channel)
            return _encoder.encode(
                MessageDeleteFrame(server=server_id, seq=seq, resync=first, data=gone)
            )
        case Removal():
            presence = WirePresence(uid=change.uid, status="offline", delete=True)
        case Presence(username=name):
            presence = WirePresence(
                uid=change.uid,
                status=change.status,
                username=defused(name) if name is not UNSET else UNSET,
                role_color=change.role_color,
                extra=change.extra,
            )
    return _encoder.encode(PresenceFrame(server=server_id, seq=seq, resync=first, data=presence))


def update_client_id(server_id: str, client_id: str | None) -> bytes:
    """Encode ``update-clientid``."""
    return _encoder.encode(UpdateClientId(server=server_id, data=ClientId(client_id=client_id)))


def refresh_data(server_id: str | None) -> bytes:
    """Encode ``refresh_data``."""
    return _encoder.encode(RefreshData(server_id=UNSET if server_id is None else server_id))


def error(code: ErrorCode, message: str) -> bytes:
    """Encode ``error``."""
    return _encoder.encode(Error(data=ErrorReason(message=message, code=code)))


def server_data(servers: Iterable[EffectiveServer]) -> bytes:
    """Encode ``server_data``."""
    return _encoder.encode(ServerData(servers=_servers(servers)))


def schema() -> Mapping[str, Any]:
    """Return the JSON Schema of all messages, in both directions."""
    kinds = [ClientMessage, ServerMessage]
    (client, server), components = msgspec.json.schema_components(
        kinds, ref_template="#/$defs/{name}"
    )
    either = [{"$ref": "#/client"}, {"$ref": "#/server"}]
    return {"anyOf": either, "client": client, "server": server, "$defs": components}


def _servers(servers: Iterable[EffectiveServer]) -> dict[str, WireServer]:
    return {
        server.server_id: WireServer(
            id=server.public_id,
            name=defused(server.name),
            default=True if server.default else UNSET,
            passworded=server.passworded,
        )
        for server in servers
    }


def _users(users: Iterable[EffectiveUser]) -> dict[str, WireUser]:
    return {
        user.uid: WireUser(
            user.uid, defused(user.username), user.status, user.role_color, user.extra or UNSET
        )
        for user in users
    }
