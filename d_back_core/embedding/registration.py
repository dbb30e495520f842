"""How an embedding program registers its callbacks."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from os import PathLike
from typing import Any, TypeAlias, TypeVar, overload

from d_back_core.embedding.callback import Callback
from d_back_core.embedding.callbacks import COUNTS

Entries: TypeAlias = Mapping[str, Any] | None
"""By id. None: cannot say. Empty: none known here; the next provider may answer."""
ClientId: TypeAlias = str | None
Page: TypeAlias = tuple[str, str | bytes | PathLike[str]] | None
"""A content type, and the content or the path of a file."""

ServerCallback: TypeAlias = (
    Callable[[], Entries | Awaitable[Entries]]
    | Callable[[str | None], Entries | Awaitable[Entries]]
)
UserCallback: TypeAlias = (
    Callable[[str], Entries | Awaitable[Entries]] | Callable[[], Entries | Awaitable[Entries]]
)
ValidateCallback: TypeAlias = (
    Callable[[str, dict[str, Any], str], bool | Awaitable[bool]]
    | Callable[[str, dict[str, Any]], bool | Awaitable[bool]]
)
ClientIdCallback: TypeAlias = (
    Callable[[str], ClientId | Awaitable[ClientId]] | Callable[[], ClientId | Awaitable[ClientId]]
)
StaticCallback: TypeAlias = Callable[[str], Page | Awaitable[Page]]

S = TypeVar("S", bound=ServerCallback)
U = TypeVar("U", bound=UserCallback)
V = TypeVar("V", bound=ValidateCallback)
C = TypeVar("C", bound=ClientIdCallback)
P = TypeVar("P", bound=StaticCallback)
F = TypeVar("F", bound=Callable[..., Any])


class Registration(ABC):
    """The five callbacks. Each method takes a function, or is used as a decorator with or without
    arguments, and returns the function unchanged.

    The function may be async or plain. A plain one runs on the event loop; with ``blocking=True``
    in a thread. One that raises, or takes longer than the ``timeout`` of the provider
    ``callbacks`` (5 s), has failed: its last answer stays in use until the ``grace`` (30 s) has
    run out, then the next provider's answer replaces it.

    ``ttl``: after so many seconds an answer is too old for a join. The callback is called again,
    once for all joins that wait. What differs from the last answer is a change; where the new
    answer only repeats the last one, later broadcasts stay.

    A function can be registered at any time; it replaces an earlier one.
    """

    @overload
    def on_get_server_data(
        self, callback: S, *, ttl: float = 0.0, blocking: bool = False
    ) -> S: ...
    @overload
    def on_get_server_data(
        self, *, ttl: float = 0.0, blocking: bool = False
    ) -> Callable[[S], S]: ...
    def on_get_server_data(
        self, callback: Any = None, *, ttl: float = 0.0, blocking: bool = False
    ) -> Any:
        """All servers, as ``{server_id: {"id", "name", "passworded", "is_default" (or
        "default"), "enabled", "password"}}``; all fields may be missing.

        Called without an argument, or with None if it takes one. ``password`` protects the server
        and admits the clients that send it; it is not shown to any client.
        """
        return self._decorated("servers", callback, ttl=ttl, blocking=blocking)

    @overload
    def on_get_user_data(self, callback: U, *, ttl: float = 0.0, blocking: bool = False) -> U: ...
    @overload
    def on_get_user_data(
        self, *, ttl: float = 0.0, blocking: bool = False
    ) -> Callable[[U], U]: ...
    def on_get_user_data(
        self, callback: Any = None, *, ttl: float = 0.0, blocking: bool = False
    ) -> Any:
        """All users of a server, by its server_id, as ``{uid: {"username", "status",
        "roleColor"}}``; a missing or invalid value gets its default: the uid, ``offline``,
        ``#ffffff``."""
        return self._decorated("users", callback, ttl=ttl, blocking=blocking)

    @overload
    def on_validate_discord_user(self, callback: V, *, blocking: bool = False) -> V: ...
    @overload
    def on_validate_discord_user(self, *, blocking: bool = False) -> Callable[[V], V]: ...
    def on_validate_discord_user(self, callback: Any = None, *, blocking: bool = False) -> Any:
        """Return True if a client that has logged in with Discord may join a protected server.
        Called at each such join with the token, the user that the client claims to be, and the
        server_id.

        Only ``True`` admits the client. Without this callback no login admits a client.
        """
        return self._decorated("authorize", callback, blocking=blocking)

    @overload
    def on_get_client_id(self, callback: C, *, ttl: float = 0.0, blocking: bool = False) -> C: ...
    @overload
    def on_get_client_id(
        self, *, ttl: float = 0.0, blocking: bool = False
    ) -> Callable[[C], C]: ...
    def on_get_client_id(
        self, callback: Any = None, *, ttl: float = 0.0, blocking: bool = False
    ) -> Any:
        """Return the OAuth2 client id with which clients of a server log in; None: none."""
        return self._decorated("client_id", callback, ttl=ttl, blocking=blocking)

    @overload
    def on_static_request(self, callback: P, *, blocking: bool = False) -> P: ...
    @overload
    def on_static_request(self, *, blocking: bool = False) -> Callable[[P], P]: ...
    def on_static_request(self, callback: Any = None, *, blocking: bool = False) -> Any:
        """Return the page for a path, which is percent-decoded and has no query: the content type,
        and the content or the path of a file. None leaves it to the built-in pages.

        Bytes are content and a ``Path`` is a file. A ``str`` is a path if it is absolute, ends
        with the requested path, or names an existing file with a suffix; else it is content, and
        so is a text that came in the requested path. A path with ``..`` in it, or to anything but
        a file, is answered with 404.
        """
        return self._decorated("routes", callback, blocking=blocking)

    def _decorated(
        self, hook: str, function: F | None, *, ttl: float = 0.0, blocking: bool
    ) -> F | Callable[[F], F]:
        def registered(function: F) -> F:
            self._register(hook, Callback(function, COUNTS[hook], ttl=ttl, blocking=blocking))
            return function

        return registered if function is None else registered(function)

    @abstractmethod
    def _register(self, hook: str, callback: Callback) -> None:
        """Use this callback from now on."""
