"""A small Discord on the loopback interface: REST and gateway, version 10, JSON, zlib-stream.

It keeps no world: a test gives it the guilds that an IDENTIFY brings, and dispatches what happens
after that. It answers every operation that Discord documents, and closes connections with the
documented codes.
"""

import asyncio
import json
import time
import zlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web
from discord_payloads import APPLICATION_ID, BOT_ID, Payload, application, message, user

TOKEN = "MTEw.loopback.token-of-the-bot"
PRESENCES, MEMBERS, CONTENT = 1 << 8, 1 << 1, 1 << 15
"""Bits of the privileged intents in an IDENTIFY."""
INTENTS = (1 << 17) - 1 | 1 << 20 | 1 << 21 | 1 << 24 | 1 << 25
"""All bits that Discord documents."""
MAX_GUILDS = 2500
"""Guilds for one connection."""
MAX_SENT, SENT_WINDOW = 120, 60.0
"""Messages that one connection takes in so many seconds."""
LIMITED_FLAGS = {PRESENCES: 1 << 13, MEMBERS: 1 << 15, CONTENT: 1 << 19}
"""The flags of an application that was allowed them."""


class Session:
    """What survives a lost connection: everything sent, by its sequence number."""

    def __init__(self, session_id: str, shard: tuple[int, int]) -> None:
        self.id = session_id
        self.shard = shard
        self.sent: list[Payload] = []


class CloseError(Exception):
    """The connection is to be closed, with this code."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Wire:
    """One WebSocket of the gateway."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request
        self.session: Session | None = None
        self.received: deque[float] = deque(maxlen=MAX_SENT)
        self._zlib = zlib.compressobj()

    async def send(self, frame: Payload) -> None:
        text = json.dumps(frame).encode()
        packed = self._zlib.compress(text) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        # Discord splits what is large: only the last part ends with the flush.
        for start in range(0, len(packed), 16_384):
            await self.socket.send_bytes(packed[start : start + 16_384])


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Loopback:
    """Discord, as far as a bot sees it."""

    runner: web.AppRunner
    port = 0
    token = TOKEN
    chunk_size = 1000
    hold_members = False
    allowed = PRESENCES | MEMBERS | CONTENT
    flags: int | None = None
    """The application's; None: as ``allowed`` says."""
    identify_closes_with: int | None = None
    refuse_sessions = 0
    """So many times an IDENTIFY is answered with INVALID_SESSION."""
    resumable = True
    invalid_sessions = False
    """What INVALID_SESSION says: whether it can be resumed."""
    timed_out = False
    """Whether a session is too old to be resumed."""
    greets = True
    """Whether a connection gets HELLO."""
    acknowledges = True
    """Whether a heartbeat gets its ACK."""
    open_again = True
    """Whether ``resume_gateway_url`` takes connections."""
    recommended_shards = 1
    gateway_bot = True
    """Whether there is ``/gateway/bot``."""
    broken: Answer | None = None
    """What REST answers to everything."""
    heartbeats = 0
    open_to_gateway = True
    deaf = False
    """True: the gateway ignores all clients that have identified."""

    def __init__(self) -> None:
        self.guilds: list[Payload] = []
        """What an IDENTIFY brings; those with ``unavailable`` do not come."""
        self.members: dict[str, list[Payload]] = {}
        """What a request for the members of a guild brings, where it differs from the guild."""
        self.refused_requests: list[float] = []
        """For each of the next requests for members: ``retry_after`` of its RATE_LIMITED."""
        self.presences: dict[str, list[Payload]] = {}
        """What comes with the members of a guild that are asked for with presences."""
        self.time = time.monotonic
        self.start_limit = {
            "total": 1000,
            "remaining": 1000,
            "reset_after": 0,
            "max_concurrency": 1,
        }
        self.people: dict[str, tuple[str, str]] = {}
        """OAuth2 tokens → user id and application id."""
        self.channels: dict[str, Payload] = {}
        """What ``GET /channels/ID`` knows."""
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        """What to answer first at a path, instead of the usual."""
        self.requests: list[tuple[str, str, str]] = []
        """Method, path and Authorization of every request."""
        self.identifies: list[Payload] = []
        self.resumes: list[Payload] = []
        self.member_requests: list[Payload] = []
        self.said: list[tuple[str, Payload]] = []
        self.wires: list[Wire] = []
        self.sessions: dict[int, Session] = {}
        """The session of each shard."""

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v10"

    @property
    def gateway_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/gateway"

    # What a test makes happen

    async def listen(self) -> None:
        """Take connections."""
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = self.runner.addresses[0][1]

    async def vanish(self) -> None:
        """Refuse connections, of REST too, from now on; cut those that stand."""
        for site in [*self.runner.sites]:
            await site.stop()
        self.cut()

    async def dispatch(self, event: str, payload: Payload, session: Session | None = None) -> None:
        """Something happens; who is not connected gets it on a resume. Without a session: in that
        of the shard to which the guild belongs."""
        session = session or self._session_of(event, payload)
        frame = {"op": 0, "t": event, "s": len(session.sent) + 1, "d": payload}
        session.sent.append(frame)
        for wire in self.wires:
            if wire.session is session:
                await wire.send(frame)

    def _session_of(self, event: str, payload: Payload) -> Session:
        assert self.sessions, "no client has identified"
        count = next(iter(self.sessions.values())).shard[1]
        key = "id" if event in {"GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"} else "guild_id"
        return self.sessions[(int(payload.get(key) or 0) >> 22) % count]

    async def drop(self, code: int = 4000) -> None:
        """Close the gateway's connections."""
        for wire in [*self.wires]:
            await wire.socket.close(code=code)

    def cut(self, shard: int | None = None) -> None:
        """Lose the gateway's connections, or that of one shard, without a word."""
        for wire in self.wires:
            if shard is not None and (wire.session is None or wire.session.shard[0] != shard):
                continue
            assert wire.request.transport is not None
            wire.request.transport.abort()

    async def send(self, op: int, payload: Any) -> None:  # noqa: ANN401  any JSON
        """A frame that is no event."""
        for wire in self.wires:
            await wire.send({"op": op, "t": None, "s": None, "d": payload})

    async def release_members(self) -> None:
        """Answer the requests for members that were held."""
        self.hold_members = False
        for wire in self.wires:
            for asked in self.member_requests:
                await self._send_members(wire, asked)

    # REST

    async def rest(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/api/v10")
        bearer = request.headers.get("Authorization", "")
        self.requests.append((request.method, path, bearer))
        if self.broken is not None:
            return await self.broken(request)
        if self.answers[path]:
            return await self.answers[path].pop(0)(request)
        if bearer.startswith("Bearer "):
            return self._of_person(path, bearer.removeprefix("Bearer "))
        if bearer != f"Bot {self.token}":
            return _error(401, "401: Unauthorized")
        if path == "/users/@me":
            return _json(user(BOT_ID, "zone-bot", bot=True))
        if path == "/oauth2/applications/@me":
            return _json(application(self._flags()))
        if path == "/gateway/bot" and self.gateway_bot:
            return _json(
                {
                    "url": self.gateway_url,
                    "shards": self.recommended_shards,
                    "session_start_limit": self.start_limit,
                }
            )
        if path.startswith("/channels/"):
            return await self._of_channel(path.split("/")[2], request)
        return _error(404, "404: Not Found")

    async def _of_channel(self, channel_id: str, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            said = await request.json()
            self.said.append((channel_id, said))
            of_bot = user(BOT_ID, "zone-bot", bot=True)
            return _json(message(of_bot, said["content"], channel_id, guild_id=None))
        if channel_id in self.channels:
            return _json(self.channels[channel_id])
        return _error(404, "404: Not Found")

    def _of_person(self, path: str, token: str) -> web.StreamResponse:
        if token not in self.people:
            return _error(401, "401: Unauthorized")
        user_id, application_id = self.people[token]
        if path == "/users/@me":
            return _json(user(user_id, "ada") | {"locale": "de", "flags": 0})
        if path == "/oauth2/@me":
            return _json(
                {
                    "application": {"id": application_id, "name": "an app", "flags": 0},
                    "scopes": ["identify"],
                    "expires": "2099-01-01T00:00:00+00:00",
                    "user": user(user_id, "ada"),
                }
            )
        return _error(404, "404: Not Found")

    def _flags(self) -> int:
        if self.flags is not None:
            return self.flags
        return sum(flag for bit, flag in LIMITED_FLAGS.items() if self.allowed & bit)

    # The gateway

    async def gateway(self, request: web.Request) -> web.StreamResponse:
        again = request.path.endswith("/again")
        if not self.open_to_gateway or (again and not self.open_again):
            return _error(503, "no gateway")
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        wire = Wire(socket, request)
        self.wires.append(wire)
        try:
            await self._greet(wire)
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    await self._receive(wire, frame.data)
                if self.deaf and wire.session is not None:
                    await asyncio.Event().wait()
        except CloseError as refused:
            await socket.close(code=refused.code, message=refused.reason.encode())
        except ConnectionResetError:
            pass
        finally:
            self.wires.remove(wire)
        return socket

    async def _greet(self, wire: Wire) -> None:
        if wire.request.query.get("v") != "10":
            raise CloseError(4012, "Invalid API version.")
        if self.greets:
            hello = {"heartbeat_interval": 41250, "_trace": ["[]"]}
            await wire.send({"op": 10, "t": None, "s": None, "d": hello})

    async def _receive(self, wire: Wire, text: str) -> None:
        now = self.time()
        if len(wire.received) == MAX_SENT and now < wire.received[0] + SENT_WINDOW:
            raise CloseError(4008, "Rate limited.")
        wire.received.append(now)
        try:
            frame = json.loads(text)
            operation, fields = frame["op"], frame["d"]
        except (ValueError, LookupError, TypeError) as error:
            raise CloseError(4002, "Error while decoding payload.") from error
        await self._take(wire, operation, fields)

    async def _take(self, wire: Wire, operation: int, fields: Any) -> None:  # noqa: ANN401  any JSON
        match operation:
            case 1:
                self.heartbeats += 1
                if self.acknowledges:
                    await wire.send({"op": 11, "t": None, "s": None, "d": None})
            case 2 if wire.session is None:
                await self._identify(wire, fields)
            case 6 if wire.session is None:
                await self._resume(wire, fields)
            case 2 | 6:
                raise CloseError(4005, "Already authenticated.")
            case 3 | 4 | 8 | 31 | 43 if wire.session is None:
                raise CloseError(4003, "Not authenticated.")
            case 3 | 4 | 31 | 43:  # presence, voice state, soundboard, channel info: not kept
                pass
            case 8:
                await self._request_members(wire, fields)
            case _:
                raise CloseError(4001, "Unknown opcode.")

    async def _identify(self, wire: Wire, asked: Payload) -> None:
        self.identifies.append(asked)
        if asked["token"] != self.token:
            raise CloseError(4004, "Authentication failed.")
        if asked["intents"] & ~INTENTS:
            raise CloseError(4013, "Invalid intent(s).")
        privileged = asked["intents"] & (PRESENCES | MEMBERS | CONTENT)
        if privileged & ~self.allowed:
            raise CloseError(4014, "Disallowed intent(s).")
        if self.identify_closes_with is not None:
            raise CloseError(self.identify_closes_with)
        if self.refuse_sessions:
            self.refuse_sessions -= 1
            await self._invalidate(wire)
            return
        shard, count = asked.get("shard", (0, 1))
        if not 0 <= shard < count:
            raise CloseError(4010, "Invalid shard.")
        guilds = [each for each in self.guilds if (int(each["id"]) >> 22) % count == shard]
        if len(guilds) > MAX_GUILDS:
            raise CloseError(4011, "Sharding required.")
        session = Session(f"session-{len(self.identifies)}", (shard, count))
        self.sessions[shard] = wire.session = session
        await self.dispatch("READY", self._ready(session, guilds), session)
        for guild in guilds:
            if not guild.get("unavailable"):
                await self.dispatch("GUILD_CREATE", guild | {"unavailable": False}, session)

    def _ready(self, session: Session, guilds: list[Payload]) -> Payload:
        return {
            "v": 10,
            "user": user(BOT_ID, "zone-bot", bot=True) | {"verified": True, "mfa_enabled": False},
            "user_settings": {},
            "private_channels": [],
            "presences": [],
            "relationships": [],
            "guilds": [{"id": guild["id"], "unavailable": True} for guild in guilds],
            "session_id": session.id,
            "session_type": "normal",
            "resume_gateway_url": f"{self.gateway_url}/again",
            "shard": session.shard,
            "application": {"id": APPLICATION_ID, "flags": self._flags()},
            "auth": {},
            "_trace": ["[]"],
        }

    async def _resume(self, wire: Wire, asked: Payload) -> None:
        self.resumes.append(asked | {"path": wire.request.path})
        known = {each.id: each for each in self.sessions.values()}
        session = known.get(asked["session_id"])
        if self.timed_out:
            raise CloseError(4009, "Session timed out.")
        if not self.resumable or session is None:
            await self._invalidate(wire)
            return
        if asked["seq"] > len(session.sent):
            raise CloseError(4007, "Invalid seq.")
        wire.session = session
        for frame in session.sent[asked["seq"] :]:
            await wire.send(frame)
        await self.dispatch("RESUMED", {"_trace": ["[]"]}, session)

    async def _invalidate(self, wire: Wire) -> None:
        await wire.send({"op": 9, "t": None, "s": None, "d": self.invalid_sessions})

    def _presences(self, asked: Payload, chunk: list[Payload]) -> list[Payload]:
        ids = {member["user"]["id"] for member in chunk}
        presences = self.presences.get(asked["guild_id"], []) if asked["presences"] else []
        return [each for each in presences if each["user"]["id"] in ids]

    async def _request_members(self, wire: Wire, asked: Payload) -> None:
        self.member_requests.append(asked)
        if self.refused_requests:
            await self._refuse_request(asked)
        elif not self.hold_members:
            await self._send_members(wire, asked)

    async def _refuse_request(self, asked: Payload) -> None:
        meta = {"guild_id": asked["guild_id"], "nonce": asked["nonce"]}
        limited = {"opcode": 8, "retry_after": self.refused_requests.pop(0), "meta": meta}
        await self.dispatch("RATE_LIMITED", limited)

    async def _send_members(self, wire: Wire, asked: Payload) -> None:
        guild_id = asked["guild_id"]
        known = {guild["id"]: guild["members"] for guild in self.guilds if "members" in guild}
        members = self.members.get(str(guild_id), known.get(str(guild_id), []))
        chunks = [
            members[start : start + self.chunk_size]
            for start in range(0, len(members), self.chunk_size)
        ] or [[]]
        for index, chunk in enumerate(chunks):
            await self.dispatch(
                "GUILD_MEMBERS_CHUNK",
                {
                    "guild_id": str(guild_id),
                    "members": chunk,
                    "chunk_index": index,
                    "chunk_count": len(chunks),
                    "nonce": asked["nonce"],
                    "presences": self._presences(asked, chunk),
                },
            )
        assert wire.session in self.sessions.values()


@asynccontextmanager
async def serving() -> AsyncIterator[Loopback]:
    """Discord on a free port, until the block ends."""
    loopback = Loopback()
    app = web.Application()
    app.router.add_get("/gateway", loopback.gateway)
    app.router.add_get("/gateway/again", loopback.gateway)
    app.router.add_route("*", "/api/v10/{path:.*}", loopback.rest)
    loopback.runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await loopback.runner.setup()
    await loopback.listen()
    try:
        yield loopback
    finally:
        loopback.cut()
        await loopback.runner.cleanup()


def limited(retry_after: float) -> Answer:
    """A 429 as Discord's."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        body = {"message": "You are being rate limited.", "retry_after": retry_after}
        headers = {"Retry-After": str(retry_after), "Via": "1.1 google"}
        return _json(body | {"global": False}, status=429, headers=headers)

    return answer


def held(until: asyncio.Event, body: Payload) -> Answer:
    """That answer, once the event is set."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        await until.wait()
        return _json(body)

    return answer


def failing(status: int) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return _error(status, "something is wrong")

    return answer


def silent(asked: asyncio.Event) -> Answer:
    """No answer at all; ``asked`` is set when it was asked for."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    return answer


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # Discord says no charset, and discord.py takes nothing else for JSON.
    headers = {"Content-Type": "application/json"} | (headers or {})
    return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)


def _error(status: int, text: str) -> web.Response:
    return _json({"message": text, "code": 0}, status=status)
