"""Providers that each break the contract in one way, and the check that has to find it."""

from typing import NamedTuple


class Defect(NamedTuple):
    """What is wrong, the check that says so, a word of what it says, and the provider."""

    name: str
    check: str
    says: str
    code: str


HOOKS = "test_its_hooks_are_those_that_the_core_calls"
UNKNOWN_KEY = "test_an_unknown_key_is_told_to_the_operator"
WRONG_VALUE = "test_a_wrong_value_is_told_to_the_operator"
SHOWN_BY_CONFIG = "test_a_secret_is_not_shown_by_the_configuration"
COMMANDS = "test_its_commands_can_be_added"
PAIRS = "test_start_and_stop_come_in_pairs"
LEFT = "test_nothing_is_left_after_stop"
CUT_SHORT = "test_stop_follows_a_start_that_was_cut_short"
FAILED = "test_stop_follows_a_start_that_failed"
PROBE = "test_a_probe_leaves_nothing"
SERVERS = "test_its_servers_are_valid"
USERS = "test_its_users_are_valid"
NOT_ITS_OWN = "test_a_server_that_is_not_its_own_is_none"
TWICE = "test_what_it_says_twice_is_the_same"
TOGETHER = "test_calls_may_run_at_the_same_time"
CANCELLED = "test_a_cancelled_call_ends_and_disturbs_no_other"
EVENTS = "test_its_events_are_valid"
AGREE = "test_its_events_and_its_users_agree"
SUBSCRIBE = "test_what_happens_before_the_stream_is_read_is_in_it"
STOP_ENDS = "test_stop_ends_the_stream"
STREAM_CANCELLED = "test_a_stream_that_is_cancelled_ends"
AUTHORIZE = "test_nobody_is_let_in_without_credentials"
CLIENT_ID = "test_client_ids_are_those_of_its_own_servers"
HTTP = "test_paths_are_answered_or_left_to_others"
RECORD = "test_a_batch_may_be_recorded_twice"
BLOCKS = "test_nothing_blocks_the_event_loop"
SECRETS = "test_secrets_stay_hidden"
SECRETS_FAILING = "test_secrets_stay_hidden_when_it_fails"
CLIENT = "test_a_client_sees_its_users"

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
        "a misspelt hook",
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
        "a stream that is no generator",
        HOOKS,
        "must be an async generator",
        """
    @hookimpl
    async def events(self): return []
""",
    ),
    Defect("a Config that is no struct", UNKNOWN_KEY, "no msgspec.Struct", "    Config = dict"),
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
        "a Config that raises what it may not",
        WRONG_VALUE,
        "raised KeyError",
        """
    class Config(ClubConfig):
        def __post_init__(self): {7000: "club"}[self.port]
""",
    ),
    Defect(
        "a refusal that names nothing",
        WRONG_VALUE,
        "without naming a key",
        """
    class Config(ClubConfig):
        def __post_init__(self):
            if self.port < 1: raise ValueError("that is wrong")
""",
    ),
    Defect(
        "a constructor that raises what it may not",
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
        "a token that is a plain text",
        SHOWN_BY_CONFIG,
        "has to be d_back_core.Secret",
        """
    class Config(ClubConfig):
        oauth_token: str = ""
""",
    ),
    Defect(
        "an error that quotes the secret",
        SHOWN_BY_CONFIG,
        "shows what 'token' is",
        """
    class Config(ClubConfig):
        def __post_init__(self):
            if len(self.token.reveal()) > 15: raise ValueError(f"token {self.token.reveal()}")
""",
    ),
    Defect(
        "a command without a help",
        COMMANDS,
        "without a help",
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
        "a task that goes on",
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
        "a thread that goes on",
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
        "a timer that goes on",
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
        "a task that fails unseen",
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
        "a start that leaves something when it is cut short",
        CUT_SHORT,
        "was cut short, and stop()",
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
        "a start that swallows its cancellation",
        CUT_SHORT,
        "went on after it was cancelled",
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
        "a start that turns its cancellation into something else",
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
        "a source that is down for ever",
        FAILED,
        "never be tried again",
        """
    @hookimpl
    async def start(self, context):
        if not self.source.there: raise ConfigError("host: nobody answers")
        await super().start(context)
""",
    ),
    Defect(
        "a source that is down and said to be empty",
        FAILED,
        "answered {} without its source",
        """
    @hookimpl
    async def start(self, context): pass
    @hookimpl
    async def servers(self): return {}
""",
    ),
    Defect(
        "a stop that raises after a start that failed",
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
        "a failed start that leaves something",
        FAILED,
        "that failed, and stop()",
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
        "a name that is blank",
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
        "neither a mapping nor None",
        """
    @hookimpl
    async def servers(self): return [Server(name="One")]
""",
    ),
    Defect(
        "a colour that is none",
        USERS,
        "users.role_color 'red'",
        """
    @hookimpl
    async def users(self, server_id): return {"7": User(username="Ada", role_color="red")}
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
        "a status that there is not",
        USERS,
        "users.status 'away'",
        """
    @hookimpl
    async def users(self, server_id): return {"7": User(username="Ada", status="away")}
""",
    ),
    Defect(
        "an empty server in place of None",
        NOT_ITS_OWN,
        "answered {} for a server that it does not know",
        """
    @hookimpl
    async def users(self, server_id): return await super().users(server_id) or {}
""",
    ),
    Defect(
        "ids that have to be numbers",
        NOT_ITS_OWN,
        "raised ValueError",
        """
    @hookimpl
    async def users(self, server_id): return await super().users(str(int(server_id)))
""",
    ),
    Defect(
        "answers that differ without a reason",
        TWICE,
        "when it was asked again",
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
        "with other calls beside it",
        """
    @hookimpl
    async def users(self, server_id):
        self.asked = server_id
        await asyncio.sleep(0)
        return await super().users(self.asked)
""",
    ),
    Defect(
        "a call that swallows its cancellation",
        CANCELLED,
        "users went on after it was cancelled",
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
        "a call that sits out its cancellation",
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
        "an event with a status that there is not",
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
        "which is not valid",
        """
    @hookimpl
    async def events(self):
        async for event in super().events(): yield structs.asdict(event)
""",
    ),
    Defect(
        "a channel that is no id",
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
        "an event that the answer contradicts",
        AGREE,
        "contradict each other",
        """
    @hookimpl
    async def users(self, server_id):
        return Source().members.get(server_id)
""",
    ),
    Defect(
        "a change that is not told",
        AGREE,
        "of '8' the events say",
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
        "a stream that goes on after stop",
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
        "a stream that sits out its cancellation",
        STREAM_CANCELLED,
        "events goes on after it was cancelled",
        """
    @hookimpl
    async def events(self):
        while True:
            with suppress(asyncio.CancelledError):
                yield await self.queue.get()
""",
    ),
    Defect(
        "a stream that swallows its cancellation",
        STREAM_CANCELLED,
        "it has swallowed that",
        """
    @hookimpl
    async def events(self):
        try:
            async for event in super().events(): yield event
        except asyncio.CancelledError:
            pass
""",
    ),
    # What is asked for one thing
    Defect(
        "a password that is missing opens",
        AUTHORIZE,
        "answered True",
        """
    @hookimpl
    async def authorize(self, server_id, credentials): return credentials.password is None
""",
    ),
    Defect(
        "an answer that only looks like a no",
        AUTHORIZE,
        "answered 0",
        """
    @hookimpl
    async def authorize(self, server_id, credentials): return 0
""",
    ),
    Defect(
        "credentials in the log",
        AUTHORIZE,
        "shows what was offered",
        """
    @hookimpl
    async def authorize(self, server_id, credentials):
        self.log.info("%s is wrong", credentials.password)
        return None
""",
    ),
    Defect(
        "a client id for servers of others",
        CLIENT_ID,
        "answered '4711'",
        """
    @hookimpl
    async def client_id(self, server_id): return "4711"
""",
    ),
    Defect(
        "a client id that is a number",
        CLIENT_ID,
        "answered 4711",
        """
    @hookimpl
    async def client_id(self, server_id): return 4711 if server_id == "1" else None
""",
    ),
    Defect(
        "an answer for every path",
        HTTP,
        "a path that is not its own",
        """
    @hookimpl
    async def http(self, request): return HttpResponse(status=404)
""",
    ),
    Defect(
        "a body that is a text",
        HTTP,
        "a body of str",
        """
    @hookimpl
    async def http(self, request):
        return HttpResponse(body="open") if request.path == "/club" else None
""",
    ),
    Defect(
        "a header that makes two",
        HTTP,
        "in its headers",
        """
    @hookimpl
    async def http(self, request):
        headers = {"X-Query": "a\\r\\nb"}
        return HttpResponse(headers=headers) if request.path == "/club" else None
""",
    ),
    Defect(
        "a batch that is added to the former one",
        RECORD,
        "answered {",
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
        "a change that it does not know",
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
        "a sleep that blocks",
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
        "a file that is read at once",
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
        "a request that blocks",
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
        "a block in the background",
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
        raise ConnectionError(f"{self.config.token.reveal()}@localhost: nobody answers")
""",
    ),
    Defect(
        "a stream that takes everybody away",
        CLIENT,
        "is not shown",
        """
    @hookimpl
    async def events(self):
        while self.queue is not None:
            await asyncio.sleep(0)
            yield UserRemoved(server_id="1", uid="7")
""",
    ),
]
