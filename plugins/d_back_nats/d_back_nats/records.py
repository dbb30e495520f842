"""What the values of the bucket, and chat, look like: JSON, to which fields may be added."""

from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from d_back_core import AccessChanged, Message, MessageDeleted, MessageEdited, Server, Status, User

Chat: TypeAlias = Message | MessageEdited | MessageDeleted
Announced: TypeAlias = Chat | AccessChanged
"""What is published and not stored."""


class UserValue(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A user as clients see it."""

    username: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    role_color: str | UnsetType = UNSET
    extra: dict[str, str] | UnsetType = UNSET


class ServerValue(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A server as clients may know it."""

    name: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    default: bool | UnsetType = UNSET
    passworded: bool | UnsetType = UNSET
    client_id: str | UnsetType = UNSET


class OriginValue(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The origin that writes the bucket."""

    run: str
    """Random for each run of an origin."""
    host: str
    since: float
    """The start of the run, in seconds since 1970."""
    seal: str
    """The X25519 key that requests to it are sealed to, base64."""
    lease: float = 0
    """Seconds for which a heartbeat gives it the bucket; 0: without `lease`."""
    epoch: str = ""
    """Random; another one if the bucket has changed in another way than by writes."""
    stopped: bool = False
    """True once the origin has stopped, and will not write any more."""

    def of(self, epoch: str, *, stopped: bool = False) -> "OriginValue":
        """Return the record for that epoch."""
        return msgspec.structs.replace(self, epoch=epoch, stopped=stopped)


class ChatValue(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """A chat message, an edit or a deletion on its way. Or ``access``: the grant ``uid`` has
    ended; if that is empty, any of the server may have."""

    channel: str
    uid: str = ""
    message: str = ""
    channel_name: str | None = None
    id: str | None = None
    at: datetime | None = None
    kind: Literal["message", "edit", "delete", "access"] = "message"
    after: int = 0
    """The revision that an edge must have seen before: the author may be as new as that."""


T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


def decoded(value: bytes, kind: type[T]) -> T | None:
    """The value; None where it is none of that kind."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError:
        return None


def encoded(value: Struct) -> bytes:
    """The value as it is stored."""
    return _encode(value)


def encoded_user(user: User) -> bytes:
    """A user as it is stored."""
    return _encode(
        UserValue(
            username=_unset_if_none(user.username),
            status=_unset_if_none(user.status),
            role_color=_unset_if_none(user.role_color),
            extra=dict(user.extra) if user.extra else UNSET,  # type: ignore[arg-type]
        )
    )


def decoded_user(value: bytes) -> User | None:
    """A stored user."""
    user = decoded(value, UserValue)
    if user is None:
        return None
    return User(
        username=user.username, status=user.status, role_color=user.role_color, extra=user.extra
    )


def encoded_server(server: Server) -> bytes:
    """A server as it is stored."""
    return _encode(
        ServerValue(
            name=_unset_if_none(server.name),
            id=_unset_if_none(server.id),
            default=_unset_if_none(server.default),
            passworded=_unset_if_none(server.passworded),
            client_id=_unset_if_none(server.client_id),
        )
    )


def decoded_server(value: bytes) -> Server | None:
    """A stored server. One that does not say so is not protected."""
    server = decoded(value, ServerValue)
    if server is None:
        return None
    return Server(
        name=server.name,
        id=server.id,
        default=server.default,
        passworded=False if server.passworded is UNSET else server.passworded,
        client_id=server.client_id,
    )


def encoded_chat(chat: Announced, after: int) -> bytes:
    """Chat as it is published. A deletion waits for no author."""
    if isinstance(chat, AccessChanged):
        return _encode(ChatValue("", uid=chat.person or "", kind="access"))
    value = ChatValue(chat.channel, channel_name=chat.channel_name, id=chat.id, kind="delete")
    if not isinstance(chat, MessageDeleted):
        kind: Literal["message", "edit"] = "message" if isinstance(chat, Message) else "edit"
        value = msgspec.structs.replace(
            value, uid=chat.uid, message=chat.message, at=chat.at, kind=kind, after=after
        )
    return _encode(value)


def chat_of(server_id: str, value: ChatValue) -> Chat | None:
    """The event; None if it names no message that it is about."""
    if value.kind == "message":
        return Message(
            server_id=server_id,
            uid=value.uid,
            message=value.message,
            channel=value.channel,
            channel_name=value.channel_name,
            id=value.id,
            at=value.at,
        )
    if value.id is None:
        return None
    if value.kind == "delete":
        return MessageDeleted(
            server_id=server_id,
            channel=value.channel,
            channel_name=value.channel_name,
            id=value.id,
        )
    return MessageEdited(
        server_id=server_id,
        uid=value.uid,
        message=value.message,
        channel=value.channel,
        channel_name=value.channel_name,
        id=value.id,
        at=value.at,
    )


def _unset_if_none(field: T | UnsetType | None) -> T | UnsetType:
    return UNSET if field is None else field
