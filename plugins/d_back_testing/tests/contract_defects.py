"""Providers with one defect each, and the check that has to find it."""

from typing import NamedTuple


class Defect(NamedTuple):
    """A defect: its name, the check that finds it, a part of the message, and the code."""

    name: str
    check: str
    says: str
    code: str


HOOKS = "test_hooks_are_known"
UNKNOWN_KEY = "test_unknown_key_is_rejected"
WRONG_VALUE = "test_wrong_value_names_its_key"
SHOWN_BY_CONFIG = "test_configuration_hides_secrets"
COMMANDS = "test_commands_can_be_added"
PAIRS = "test_provider_can_be_restarted"
LEFT = "test_stop_releases_everything"
CUT_SHORT = "test_cancelled_start_can_be_stopped"
FAILED = "test_failed_start_can_be_stopped"
PROBE = "test_probe_releases_everything"
SERVERS = "test_servers_are_valid"
USERS = "test_users_are_valid"
NOT_ITS_OWN = "test_unknown_server_returns_none"
TWICE = "test_repeated_calls_agree"
TOGETHER = "test_concurrent_calls_agree"
CANCELLED = "test_cancelled_call_ends"
EVENTS = "test_events_are_valid"
AGREE = "test_events_and_users_agree"
SUBSCRIBE = "test_start_subscribes"
STOP_ENDS = "test_stop_ends_the_stream"
STREAM_CANCELLED = "test_cancelled_stream_ends"
REPORTED = "test_lost_source_is_reported"
NO_DATA = "test_lost_source_returns_no_data"
NEW_DATA = "test_reconnect_returns_new_data"
NEW_EVENTS = "test_reconnect_yields_new_events"
AUTHORIZE = "test_wrong_credentials_are_refused"
ROUTES = "test_routes_answer"
RECORD = "test_record_is_idempotent"
BLOCKS = "test_nothing_blocks_the_event_loop"
SECRETS = "test_secrets_stay_hidden"
SECRETS_FAILING = "test_secrets_stay_hidden_on_failure"
CLIENT = "test_client_sees_all_users"

DEFECTS = [
    # The class
    Defect(
        "a hook that is not marked",
        HOOKS,
        "Bad.users is not marked as a hook",
        """
    async def users(self, server_id): return None
""",
    ),
    Defect(
        "a misspelled hook",
        HOOKS,
        "did you mean 'users'",
        """
    @hookimpl
    async def user(self, server_id): return None
""",
    ),
    Defect(
        "a wrong signature",
        HOOKS,
        "server",
        """
    @hookimpl
    async def users(self, server): return None
""",
    ),
    Defect(
        "a hook that is not async",
        HOOKS,
        "must be async",
        """
    @hookimpl
    def users(self, server_id): return None
""",
    ),
    Defect(
        "a stream that is not a generator",
        HOOKS,
        "must be an async generator",
        """
    @hookimpl
    async def events(self): return []
""",
    ),
    Defect(
        "a Config that is not a struct",
        UNKNOWN_KEY,
        "is not a msgspec.Struct",
        "    Config = dict",
    ),
    Defect(
        "a key of the core",
        UNKNOWN_KEY,
        "'timeout', a key of the core",
        """
    class Config(ClubConfig):
        timeout: float = 1.0
""",
    ),
    Defect(
        "a Config that raises KeyError",
        WRONG_VALUE,
        "raised KeyError",
        """
    class Config(ClubConfig):
        def __post_init__(self): {7000: "club"}[self.port]
""",
    ),
    Defect(
        "a rejection that names no key",
        WRONG_VALUE,
        "without naming a key",
        """
    class Config(ClubConfig):
        def __post_init__(self):
            if self.port < 1: raise ValueError("that is wrong")
""",
    ),
    Defect(
        "a constructor that raises OverflowError",
        WRONG_VALUE,
        "raised OverflowError",
        """
    class Config(ClubConfig):
        def __post_init__(self): pass
    def __init__(self, config, source=None):
        super().__init__(config, source)
        self.port = config.port.to_bytes(2)
""",
    ),
    Defect(
        "a token that is a str",
        SHOWN_BY_CONFIG,
        "expected d_back_core.Secret",
        """
    class Config(ClubConfig):
        oauth_token: str = ""
""",
    ),
    Defect(
        "an error that quotes the secret",
        SHOWN_BY_CONFIG,
        "shows the value of 'token'",
        """
    class Config(ClubConfig):
        def __post_init__(self):
            if len(self.token.reveal()) > 15: raise ValueError(f"token {self.token.reveal()}")
""",
    ),
    Defect(
        "a command without a help",
        COMMANDS,
        "without a help text",
        """
    @classmethod
    @hookimpl
    def commands(cls, group):
        @group.command()
        def members(): pass
""",
    ),
    # Start and stop
    Defect(
        "a second start that fails",
        PAIRS,
        "raised RuntimeError: was started",
        """
    ran = False
    @hookimpl
    async def start(self, context):
        if self.ran: raise RuntimeError("was started")
        self.ran = True
        await super().start(context)
""",
    ),
    Defect(
        "a second start that knows less",
        PAIRS,
        "and knew ['1', '2'] before",
        """
    @hookimpl
    async def stop(self):
        await super().stop()
        self.forgotten = True
    @hookimpl
    async def servers(self):
        return {} if hasattr(self, "forgotten") else await super().servers()
""",
    ),
    Defect(
        "a task that keeps running",
        LEFT,
        "task a forgotten one",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        asyncio.create_task(asyncio.Event().wait(), name="a forgotten one")
""",
    ),
    Defect(
        "a socket that stays open",
        LEFT,
        "socket 127.0.0.1",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        self.listening = await asyncio.start_server(print, "127.0.0.1", 0)
""",
    ),
    Defect(
        "a thread that keeps running",
        LEFT,
        "thread a forgotten one",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        wait = threading.Event().wait
        threading.Thread(target=wait, name="a forgotten one", daemon=True).start()
""",
    ),
    Defect(
        "a timer that is not cancelled",
        LEFT,
        "1 timers of the clock",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        context.clock.call_later(3600, print)
""",
    ),
    Defect(
        "a task that fails without being awaited",
        LEFT,
        "in the background",
        """
    async def fail(self): raise ValueError("unseen")
    @hookimpl
    async def start(self, context):
        await super().start(context)
        asyncio.create_task(self.fail())
""",
    ),
    Defect(
        "a stop that needs a start",
        CUT_SHORT,
        "stop() raised AttributeError",
        """
    @hookimpl
    async def stop(self):
        self.source.listeners.remove(self.queue) if self.queue else None
        self.task.cancel()
""",
    ),
    Defect(
        "a cancelled start that leaks",
        CUT_SHORT,
        "after a cancelled start() and stop()",
        """
    @hookimpl
    async def start(self, context):
        task = asyncio.create_task(asyncio.Event().wait(), name="begun")
        await asyncio.sleep(0)
        self.task = task
        await super().start(context)
""",
    ),
    Defect(
        "a start that suppresses cancellation",
        CUT_SHORT,
        "continued after it was cancelled",
        """
    @hookimpl
    async def start(self, context):
        try:
            await super().start(context)
        except asyncio.CancelledError:
            pass
""",
    ),
    Defect(
        "a start that replaces CancelledError",
        CUT_SHORT,
        "raised ConnectionError",
        """
    @hookimpl
    async def start(self, context):
        try:
            await super().start(context)
        except BaseException:
            raise ConnectionError("lost")
""",
    ),
    Defect(
        "a missing source that is a ConfigError",
        FAILED,
        "would never retry",
        """
    @hookimpl
    async def start(self, context):
        if not self.source.there: raise ConfigError("host: no answer")
        await super().start(context)
""",
    ),
    Defect(
        "a missing source that looks empty",
        FAILED,
        "returned {} without its source",
        """
    @hookimpl
    async def start(self, context): pass
    @hookimpl
    async def servers(self): return {}
""",
    ),
    Defect(
        "a stop that raises after a failed start",
        FAILED,
        "stop() raised ValueError",
        """
    @hookimpl
    async def stop(self):
        self.source.listeners.remove(self.queue)
        await super().stop()
""",
    ),
    Defect(
        "a failed start that leaks",
        FAILED,
        "after a failed start() and stop()",
        """
    @hookimpl
    async def start(self, context):
        self.listening = await asyncio.start_server(print, "127.0.0.1", 0)
        await super().start(context)
""",
    ),
    Defect(
        "a probe that is not stopped",
        PROBE,
        "task probed",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        if context.probe: asyncio.create_task(asyncio.Event().wait(), name="probed")
""",
    ),
    # Answers
    Defect(
        "an empty name",
        SERVERS,
        "servers.name ''",
        """
    @hookimpl
    async def servers(self): return {"1": Server(name="")}
""",
    ),
    Defect(
        "servers in a list",
        SERVERS,
        "expected a mapping or None",
        """
    @hookimpl
    async def servers(self): return [Server(name="One")]
""",
    ),
    Defect(
        "an invalid color",
        USERS,
        "users.role_color 'red'",
        """
    @hookimpl
    async def users(self, server_id): return {"7": User(username="Ada", role_color="red")}
""",
    ),
    Defect(
        "an extra text that is too long",
        USERS,
        "users.extra",
        """
    @hookimpl
    async def users(self, server_id): return {"7": User(extra={"avatar": "x" * 257})}
""",
    ),
    Defect(
        "uids that are numbers",
        USERS,
        "users: key 7",
        """
    @hookimpl
    async def users(self, server_id): return {7: User(username="Ada")}
""",
    ),
    Defect(
        "users that are dictionaries",
        USERS,
        "users: record",
        """
    @hookimpl
    async def users(self, server_id): return {"7": {"username": "Ada"}}
""",
    ),
    Defect(
        "an invalid status",
        USERS,
        "users.status 'away'",
        """
    @hookimpl
    async def users(self, server_id): return {"7": User(username="Ada", status="away")}
""",
    ),
    Defect(
        "an empty server instead of None",
        NOT_ITS_OWN,
        "returned {} for a server that it does not know",
        """
    @hookimpl
    async def users(self, server_id): return await super().users(server_id) or {}
""",
    ),
    Defect(
        "ids that must be numbers",
        NOT_ITS_OWN,
        "raised ValueError",
        """
    @hookimpl
    async def users(self, server_id): return await super().users(str(int(server_id)))
""",
    ),
    Defect(
        "answers that differ without a change",
        TWICE,
        "when called again",
        """
    count = 0
    @hookimpl
    async def users(self, server_id):
        self.count += 1
        known = server_id in self.source.members
        return {"7": User(username=f"Ada {self.count}")} if known else None
""",
    ),
    Defect(
        "calls that share a variable",
        TOGETHER,
        "with concurrent calls",
        """
    @hookimpl
    async def users(self, server_id):
        self.asked = server_id
        await asyncio.sleep(0)
        return await super().users(self.asked)
""",
    ),
    Defect(
        "a call that suppresses cancellation",
        CANCELLED,
        "users continued after it was cancelled",
        """
    @hookimpl
    async def users(self, server_id):
        try:
            return await super().users(server_id)
        except BaseException:
            return None
""",
    ),
    Defect(
        "a call that ignores cancellation",
        CANCELLED,
        "users has not ended after it was cancelled",
        """
    @hookimpl
    async def users(self, server_id):
        answer = await super().users(server_id)
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
                if not asyncio.current_task().cancelling(): return answer
                await asyncio.Event().wait()
""",
    ),
    Defect(
        "a lock that a cancelled call keeps",
        CANCELLED,
        "users has not returned within",
        """
    @hookimpl
    async def users(self, server_id):
        self.lock = getattr(self, "lock", None) or asyncio.Lock()
        await self.lock.acquire()
        answer = await super().users(server_id)
        self.lock.release()
        return answer
""",
    ),
    # The stream
    Defect(
        "an event with a number as its uid",
        EVENTS,
        "events.uid 7",
        """
    @hookimpl
    async def events(self):
        async for event in super().events(): yield structs.replace(event, uid=7)
""",
    ),
    Defect(
        "an event with an invalid status",
        EVENTS,
        "events.status 'busy'",
        """
    @hookimpl
    async def events(self):
        async for event in super().events(): yield structs.replace(event, status="busy")
""",
    ),
    Defect(
        "an event that is a dictionary",
        EVENTS,
        "which is invalid",
        """
    @hookimpl
    async def events(self):
        async for event in super().events(): yield structs.asdict(event)
""",
    ),
    Defect(
        "a channel that is not an id",
        EVENTS,
        "channel 'the bar'",
        """
    @hookimpl
    async def events(self):
        async for _ in super().events():
            yield Message(server_id="1", uid="7", message="hello", channel="the bar")
""",
    ),
    Defect(
        "a stream that raises",
        EVENTS,
        "events raised ZeroDivisionError",
        """
    @hookimpl
    async def events(self):
        async for event in super().events(): yield event if 1 / 0 else None
""",
    ),
    Defect(
        "an event that contradicts users",
        AGREE,
        "do not agree",
        """
    @hookimpl
    async def users(self, server_id):
        return Source().members.get(server_id)
""",
    ),
    Defect(
        "a change without an event",
        AGREE,
        "uid '8' is",
        """
    @hookimpl
    async def events(self):
        async for event in super().events():
            self.source.members["1"]["8"] = User(username="Bobby")
            yield event
""",
    ),
    Defect(
        "a stream that subscribes when it is read",
        SUBSCRIBE,
        "between start() and",
        """
    @hookimpl
    async def events(self):
        while not self.queue.empty(): self.queue.get_nowait()
        async for event in super().events(): yield event
""",
    ),
    Defect(
        "a stream that continues after stop",
        STOP_ENDS,
        "after stop()",
        """
    @hookimpl
    async def events(self):
        async for event in super().events(): yield event
        await asyncio.Event().wait()
""",
    ),
    Defect(
        "a stream that ignores cancellation",
        STREAM_CANCELLED,
        "events continues after it was cancelled",
        """
    @hookimpl
    async def events(self):
        while True:
            with suppress(asyncio.CancelledError):
                yield await self.queue.get()
""",
    ),
    Defect(
        "a stream that suppresses cancellation",
        STREAM_CANCELLED,
        "it must let CancelledError pass",
        """
    @hookimpl
    async def events(self):
        try:
            async for event in super().events(): yield event
        except asyncio.CancelledError:
            pass
""",
    ),
    # A lost source
    Defect(
        "a stream that waits for a lost source",
        REPORTED,
        "events still waits",
        """
    @hookimpl
    async def events(self):
        while self.queue and (event := await self.queue.get()) is not None:
            if not isinstance(event, Link): yield event
""",
    ),
    Defect(
        "a stream that returns when the source is lost",
        REPORTED,
        "events returned when the source was lost",
        """
    @hookimpl
    async def events(self):
        with suppress(ConnectionError):
            async for event in super().events(): yield event
""",
    ),
    Defect(
        "a loss that is reported to the first run",
        REPORTED,
        "events still waits",
        """
    first = None
    @hookimpl
    async def start(self, context):
        await super().start(context)
        self.again, self.first = self.first is not None, self.first or context
    @hookimpl
    async def events(self):
        try:
            async for event in super().events(): yield event
        except ConnectionError:
            if not self.again: raise
            self.first.degraded("the connection is lost")
            await self.queue.get()
""",
    ),
    Defect(
        "a degraded provider that does not reconnect",
        REPORTED,
        "has not reconnected",
        """
    @hookimpl
    async def start(self, context):
        self.context = context
        await super().start(context)
    @hookimpl
    async def events(self):
        while self.queue and (event := await self.queue.get()) is not None:
            if event is Link.LOST: self.context.degraded("the connection is lost")
            elif event is not Link.FOUND: yield event
""",
    ),
    Defect(
        "a start that fails after a loss",
        REPORTED,
        "start still raises",
        """
    @hookimpl
    async def start(self, context):
        if self.source.lost: raise ConnectionError("the session is over")
        await super().start(context)
""",
    ),
    Defect(
        "a cache without a stream",
        REPORTED,
        "still returns data",
        """
    events = None
    @hookimpl
    async def users(self, server_id): return self.source.members.get(server_id)
""",
    ),
    Defect(
        "an empty list during a reconnect",
        NO_DATA,
        "servers() returned an empty mapping while its source was lost",
        """
    @hookimpl
    async def start(self, context):
        with suppress(ConnectionError): await super().start(context)
    @hookimpl
    async def servers(self): return await super().servers() if self.source.there else {}
""",
    ),
    Defect(
        "an empty server during a reconnect",
        NO_DATA,
        "users('1') returned an empty mapping while its source was lost",
        """
    @hookimpl
    async def start(self, context):
        with suppress(ConnectionError): await super().start(context)
    @hookimpl
    async def users(self, server_id):
        with suppress(ConnectionError): return await super().users(server_id)
        return {}
""",
    ),
    Defect(
        "an empty server of a degraded provider",
        NO_DATA,
        "users('1') returned an empty mapping while its source was lost",
        """
    @hookimpl
    async def start(self, context):
        self.context = context
        await super().start(context)
    @hookimpl
    async def users(self, server_id):
        members = self.source.members if self.source.there else {"1": {}}
        return members.get(server_id)
    events = Reconnecting.events
""",
    ),
    Defect(
        "an answer from a dead connection",
        NO_DATA,
        "users('1') returned old data while its source was lost",
        """
    @hookimpl
    async def start(self, context):
        with suppress(ConnectionError): await super().start(context)
    @hookimpl
    async def users(self, server_id): return self.source.members.get(server_id)
""",
    ),
    Defect(
        "a lost source that is a ConfigError",
        NO_DATA,
        "would never retry",
        """
    @hookimpl
    async def start(self, context):
        if not self.source.there: raise ConfigError("host: no answer")
        await super().start(context)
""",
    ),
    Defect(
        "a cache that outlives its connection",
        NEW_DATA,
        "what it returned before",
        """
    @hookimpl
    async def users(self, server_id):
        self.cache = getattr(self, "cache", {})
        if server_id not in self.cache: self.cache[server_id] = await super().users(server_id)
        return self.cache[server_id]
""",
    ),
    Defect(
        "a subscription in the first run only",
        NEW_EVENTS,
        "events waits after the reconnect",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        if self.source.lost: self.source.listeners.clear()
    @hookimpl
    async def users(self, server_id): return self.source.members.get(server_id)
""",
    ),
    Defect(
        "a stream of the last run",
        NEW_EVENTS,
        "events returned after the reconnect",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        self.first = getattr(self, "first", self.queue)
    @hookimpl
    async def events(self):
        while (event := await self.first.get()) is not None:
            if isinstance(event, Link): raise ConnectionError("the connection is lost")
            yield event
""",
    ),
    Defect(
        "an end of the last run that ends this one",
        NEW_EVENTS,
        "events raised ConnectionError",
        """
    lost = False
    @hookimpl
    async def events(self):
        if self.lost: raise ConnectionError("the connection is lost")
        try:
            async for event in super().events(): yield event
        except ConnectionError:
            self.lost = True
            raise
""",
    ),
    # What is asked for one thing
    Defect(
        "a missing password that is accepted",
        AUTHORIZE,
        "returned True",
        """
    @hookimpl
    async def authorize(self, server_id, credentials): return credentials.password is None
""",
    ),
    Defect(
        "an answer that only equals False",
        AUTHORIZE,
        "returned 0",
        """
    @hookimpl
    async def authorize(self, server_id, credentials): return 0
""",
    ),
    Defect(
        "credentials in the log",
        AUTHORIZE,
        "shows the credentials",
        """
    @hookimpl
    async def authorize(self, server_id, credentials):
        self.log.info("%s is wrong", credentials.password)
        return None
""",
    ),
    Defect(
        "a path of the gateway",
        ROUTES,
        "'/healthz' belongs to the gateway",
        """
    @hookimpl
    def routes(self): return [Route("/healthz", self.show)]
""",
    ),
    Defect(
        "a route of another framework",
        ROUTES,
        "str is not a Route or Mount",
        """
    @hookimpl
    def routes(self): return ["/club"]
""",
    ),
    Defect(
        "an endpoint that fails",
        ROUTES,
        "it raised KeyError",
        """
    async def show(self, request): return PlainTextResponse(request.query_params["door"])
""",
    ),
    Defect(
        "a path that is not served",
        ROUTES,
        "404 for a path of `http_paths`",
        """
    @hookimpl
    def routes(self): return [Route("/house", self.show)]
""",
    ),
    Defect(
        "a header with a line break",
        ROUTES,
        "in the headers",
        """
    async def show(self, request):
        return PlainTextResponse("open", headers={"X-Query": "a\\r\\nb"})
""",
    ),
    Defect(
        "a batch that is recorded twice",
        RECORD,
        "returned {",
        """
    @hookimpl
    async def record(self, changes):
        for change in changes:
            if isinstance(change, UserSet):
                users = self.recorded.setdefault(change.server_id, {})
                uid = change.uid if change.uid not in users else change.uid * 2
                users[uid] = change.user
""",
    ),
    Defect(
        "a change of an unknown type",
        RECORD,
        "raised TypeError",
        """
    @hookimpl
    async def record(self, changes):
        for change in changes:
            if type(change).__name__ not in KNOWN: raise TypeError(change)
KNOWN = {"UserSet", "UserRemoved", "ServerSet", "ClientIdChanged", "Snapshot"}
""",
    ),
    # A whole life
    Defect(
        "a blocking sleep",
        BLOCKS,
        "Blocking call to time.sleep",
        """
    @hookimpl
    async def users(self, server_id):
        time.sleep(0.001)
        return await super().users(server_id)
""",
    ),
    Defect(
        "a blocking file",
        BLOCKS,
        "Blocking call to io",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        Path(__file__).read_text()
""",
    ),
    Defect(
        "a blocking request",
        BLOCKS,
        "Blocking call to socket.socket.connect",
        """
    @hookimpl
    async def servers(self):
        with suppress(OSError): urllib.request.urlopen("http://127.0.0.1:9/", timeout=1)
        return await super().servers()
""",
    ),
    Defect(
        "a blocking call in a task",
        BLOCKS,
        "blocked the event loop",
        """
    async def work(self):
        try:
            time.sleep(0.001)
        except Exception:
            self.log.exception("cannot work")
""",
    ),
    Defect(
        "a repr that shows the secret",
        SECRETS,
        "Bad(token='[the secret]')",
        """
    def __repr__(self): return f"Bad(token={self.config.token.reveal()!r})"
""",
    ),
    Defect(
        "a log that shows the secret",
        SECRETS,
        "with [the secret]",
        """
    @hookimpl
    async def start(self, context):
        await super().start(context)
        context.log.debug("logging in with %s", self.config.token.reveal())
""",
    ),
    Defect(
        "an exception that shows the secret",
        SECRETS_FAILING,
        "[the secret]",
        """
    @hookimpl
    async def start(self, context):
        raise ConnectionError(f"{self.config.token.reveal()}@localhost: no answer")
""",
    ),
    Defect(
        "a stream that removes all users",
        CLIENT,
        "does not see",
        """
    @hookimpl
    async def events(self):
        while self.queue is not None:
            await asyncio.sleep(0)
            yield UserRemoved(server_id="1", uid="7")
""",
    ),
]
