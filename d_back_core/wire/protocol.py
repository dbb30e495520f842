"""The wire protocol: client messages decoded to structs, server messages encoded to JSON.

The only module that knows the wire's camelCase. ``docs/en/protocol.md`` describes the messages;
the JSON Schema and the AsyncAPI document are generated from the structs. The base is what d-zone
and d-back 0.0.18 speak: fields may be added, never changed.

What the fields' types say of ids, texts and numbers is for the schemas only: ``extra_json_schema``
is not checked when a message is decoded. So the gateway refuses a client's message for its JSON
types only, and a client understands a gateway that has more values.

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
    EXTRA_KEY,
    ID,
    MAX_EXTRA,
    MAX_EXTRA_LENGTH,
    PROTOTYPE_WORDS,
    PUBLIC_ID,
    ROLE_COLOR,
    EffectiveServer,
    EffectiveUser,
    Message,
    MessageDeleted,
    MessageEdited,
    Status,
)

UNKNOWN_SERVER = "Sorry, couldn't connect to that Discord server."
UNAUTHORIZED = "This server requires Discord authentication. Please login with Discord."
PASSWORD_REQUIRED = "This server requires a password."  # noqa: S105  a text
PASSWORD_OR_LOGIN = "This server requires a password, or a login with Discord."  # noqa: S105  a text
CLOSED = "This server is closed: no client can join it."
AUTHENTICATION_FAILED = "Discord authentication failed. Please try logging in again."


def _described(description: str, **more: object) -> Meta:
    return Meta(description=description, extra_json_schema=more)


def _shaped(description: str, pattern: re.Pattern[str]) -> Meta:
    return _described(description, pattern=f"^{pattern.pattern}$")


ServerId = Annotated[str, _shaped("The server_id.", ID)]
PublicId = Annotated[str, _shaped("The public id of the server.", PUBLIC_ID)]
WantedServer = Annotated[str, _described("The public id or the server_id.")]
Uid = Annotated[str, _shaped("The id of the user.", ID)]
Channel = Annotated[str, _shaped("The id of the channel.", ID)]
MessageId = Annotated[str, _shaped("Identifies the message in its channel.", ID)]
ClientIdText = Annotated[str, _shaped("The OAuth2 client id to log in with.", ID)]
Name = Annotated[str, _described("The name to show.", minLength=1)]
ChatText = Annotated[str, _described("The text.", minLength=1)]
Time = Annotated[datetime, _described("A time of RFC 3339, in UTC.", format="date-time")]
WireStatus = Annotated[str, _described("The status.", enum=list(get_args(Status)))]
RoleColor = Annotated[str, _shaped("The colour of the user's role.", ROLE_COLOR)]
ExtraKey = Annotated[str, _shaped("The key of the text.", EXTRA_KEY)]
ExtraText = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_EXTRA_LENGTH})]
_MOST_EXTRA = Meta(extra_json_schema={"maxProperties": MAX_EXTRA})
Epoch = Annotated[str, _described("The run of numbers that `seq` belongs to.", minLength=1)]
Seq = Annotated[int, _described("The client has every change up to this number.", minimum=0)]
Resync = Annotated[
    Literal[True],
    _described(
        "The client read too slowly. The first and the last frame that bring it up to date have "
        "this; only the last one carries the new number."
    ),
]


class Resume(Struct, frozen=True, kw_only=True):
    """The state of a client that reconnects: its epoch and the last ``seq`` it received."""

    epoch: Epoch
    seq: Seq


class ConnectRequest(Struct, frozen=True, kw_only=True, rename="camel"):
    """``connect.data``: the server to join, and the credentials."""

    server: str | None = None
    """The public id, the server_id, or the id that the provider gave. Missing, null, blank,
    ``"null"`` and ``"default"``: the default server."""
    password: str | None = None
    """The password of a protected server."""
    discord_token: str | None = None
    """An OAuth2 access token of Discord, for a protected server."""
    discord_user: dict[str, Any] | None = None
    """The Discord user as the client knows it. Nothing in it is trusted."""
    resume: Resume | None = None
    """The numbers of the client's copy, to receive only what it has missed."""

    def __repr__(self) -> str:
        return f"ConnectRequest(server={self.server!r})"


class Connect(Struct, frozen=True, kw_only=True, tag="connect"):
    """Join a server; ends the current subscription."""

    data: ConnectRequest | None = None


class GetUserData(Struct, frozen=True, kw_only=True, tag="get_user_data", rename="camel"):
    """Ask for the users of a server once."""

    server_id: WantedServer


class GetServerData(Struct, frozen=True, kw_only=True, tag="get_server_data", rename="camel"):
    """Ask for all servers, or one of them, once."""

    server_id: WantedServer | None = None
    """Missing or null: all servers."""


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

    id: PublicId
    name: Name
    default: Annotated[bool, Meta(extra_json_schema={"const": True})] | UnsetType = UNSET
    """True for the server that a client joins if it names none."""
    passworded: bool
    """True if a join requires a password or a login."""


class WireUser(Struct, frozen=True, rename="camel", gc=False):
    """A user in ``server-join`` and ``user_data``."""

    uid: Uid
    username: Name
    status: WireStatus
    role_color: RoleColor
    extra: Annotated[Mapping[ExtraKey, ExtraText], _MOST_EXTRA] | UnsetType = UNSET
    """Further texts by key; only keys that the operator has named."""


class WirePresence(Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """``presence.data``: always the status; the other fields only if they changed."""

    uid: Uid
    status: WireStatus
    username: Name | UnsetType = UNSET
    role_color: RoleColor | UnsetType = UNSET
    extra: Mapping[ExtraKey, ExtraText | None] | UnsetType = UNSET
    """The texts that changed; null: the text is gone."""
    delete: Literal[True] | UnsetType = UNSET
    """The user has left; ``status`` is ``offline`` then."""


class WireMessage(Struct, frozen=True, kw_only=True, gc=False):
    """``message.data``."""

    uid: Uid
    message: ChatText
    channel: Channel
    id: MessageId | UnsetType = UNSET
    """Identifies the message in its channel, if it can be edited or deleted."""
    at: Time | UnsetType = UNSET
    """When it was written: a time of RFC 3339, in UTC."""


class WireMessageEdit(Struct, frozen=True, kw_only=True, gc=False):
    """``message-edit.data``."""

    uid: Uid
    message: ChatText
    channel: Channel
    id: MessageId
    at: Time | UnsetType = UNSET
    """When it was edited: a time of RFC 3339, in UTC."""


class WireMessageDelete(Struct, frozen=True, kw_only=True, gc=False):
    """``message-delete.data``. Without an id: all messages that the client has and that have one,
    since too many were deleted while it read too slowly."""

    id: MessageId | UnsetType = UNSET
    channel: Channel | UnsetType = UNSET
    """Missing if ``id`` is."""


class ServerList(Struct, frozen=True, kw_only=True, tag="server-list"):
    """The first message of every connection, sent once: server_id → server."""

    data: dict[ServerId, WireServer]


class ServerListUpdate(Struct, frozen=True, kw_only=True, tag="server-list-update"):
    """The list has changed: the servers that are new or changed, and those that are gone."""

    data: dict[ServerId, WireServer]
    removed: list[ServerId] | UnsetType = UNSET
    """The server_ids of those that are gone."""


class Request(Struct, frozen=True, kw_only=True):
    """The server that was joined, by its public id, also if the client asked for the default."""

    server: PublicId


class Joined(Struct, frozen=True, kw_only=True, rename="camel"):
    """``server-join.data``: all users of the server, at ``seq`` of this ``epoch``."""

    request: Request
    server_name: Name
    client_id: ClientIdText | UnsetType = UNSET
    epoch: Epoch
    seq: Seq
    users: dict[Uid, WireUser]


class ServerJoin(Struct, frozen=True, kw_only=True, tag="server-join"):
    """The answer to ``connect``; deltas follow from ``seq`` on."""

    data: Joined


class Resumed(Struct, frozen=True, kw_only=True, tag="resumed"):
    """The client's copy is valid at ``seq``, and deltas follow from there.

    The answer to ``connect`` with ``resume``. Also sent to a client that read too slowly, if
    nothing of what it missed matters any more.
    """

    server: ServerId
    epoch: Epoch
    seq: Seq


class PresenceFrame(Struct, frozen=True, kw_only=True, tag="presence"):
    """A user came, changed, or (with ``delete``) left."""

    server: ServerId
    seq: Seq
    resync: Resync | UnsetType = UNSET
    data: WirePresence


class MessageFrame(Struct, frozen=True, kw_only=True, tag="message"):
    """A user wrote a chat message."""

    server: ServerId
    seq: Seq
    resync: Resync | UnsetType = UNSET
    data: WireMessage


class MessageEditFrame(Struct, frozen=True, kw_only=True, tag="message-edit"):
    """A chat message has another text now. Ignore it if the message is not there."""

    server: ServerId
    seq: Seq
    resync: Resync | UnsetType = UNSET
    data: WireMessageEdit


class MessageDeleteFrame(Struct, frozen=True, kw_only=True, tag="message-delete"):
    """A chat message is gone. Ignore it if the message is not there."""

    server: ServerId
    seq: Seq
    resync: Resync | UnsetType = UNSET
    data: WireMessageDelete


class ClientId(Struct, frozen=True, kw_only=True, rename="camel"):
    """``update-clientid.data``."""

    client_id: ClientIdText | None


class UpdateClientId(Struct, frozen=True, kw_only=True, tag="update-clientid"):
    """The OAuth2 client id of the server changed."""

    server: ServerId
    data: ClientId


class RefreshData(Struct, frozen=True, kw_only=True, tag="refresh_data", rename="camel"):
    """All data of the server (without an id: of every server) was fetched again."""

    server_id: ServerId | UnsetType = UNSET


class ErrorReason(Struct, frozen=True, kw_only=True):
    """``error.data``: a sentence for people and a code for programs."""

    message: str
    code: Annotated[str, Meta(extra_json_schema={"examples": list(get_args(ErrorCode))})]
    """The examples are all codes. More may be added: treat an unknown one as
    ``invalid_message``."""


class Error(Struct, frozen=True, kw_only=True, tag="error"):
    """A request was refused, or the subscription has ended."""

    data: ErrorReason


class HttpError(Struct, frozen=True, kw_only=True):
    """The body of an HTTP answer that refuses a request for the users of a server."""

    error: ErrorReason


class UserData(Struct, frozen=True, kw_only=True, tag="user_data", rename="camel"):
    """The answer to ``get_user_data``."""

    server_id: ServerId
    users: dict[Uid, WireUser]


class ServerData(Struct, frozen=True, kw_only=True, tag="server_data"):
    """The answer to ``get_server_data``: server_id → server."""

    servers: dict[ServerId, WireServer]


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


def http_error(code: ErrorCode, message: str) -> bytes:
    """Encode the body of an HTTP answer that refuses a request."""
    return _encoder.encode(HttpError(error=ErrorReason(message=message, code=code)))


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
