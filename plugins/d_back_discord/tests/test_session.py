"""Login, the gateway's sessions, and what the operator reads when they end."""

import asyncio
import gc
import logging
import threading

import discord_payloads as say
import pytest
from aiohttp import web
from discord_core import Begin, Core, Prepare, until
from discord_loopback import CONTENT, MEMBERS, PRESENCES, Loopback, failing, limited
from discord_worlds import BOB, EVE, club

from d_back_core import ConfigError, Secret, User, UserChanged
from d_back_discord import gateway
from d_back_discord.client import OwnClient

FRAMES = 50
SILENT = (logging.INFO, "d_back.providers.discord")


async def test_identify(begin: Begin, loopback: Loopback) -> None:
    """The bot logs in over REST and identifies at the configured gateway, with its token."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    assert loopback.requests == [
        ("GET", "/users/@me", f"Bot {loopback.token}"),
        ("GET", "/oauth2/applications/@me", f"Bot {loopback.token}"),
        *[("GET", "/gateway/bot", f"Bot {loopback.token}")] * 2,
    ]
    assert [asked["token"] for asked in loopback.identifies] == [loopback.token]


async def test_probe(prepare: Prepare, loopback: Loopback) -> None:
    """A probe logs in over REST and leaves the gateway alone."""
    core = prepare()
    await core.start(probe=True)
    assert len(loopback.requests) == 2
    assert loopback.wires == []
    assert await core.provider.servers() is None


async def test_token_refused(prepare: Prepare, loopback: Loopback) -> None:
    """A token that REST refuses is the operator's to mend: it says where, and not the token."""
    core = prepare(token=Secret("wrong"))
    with pytest.raises(
        ConfigError, match=r"token: Discord refuses it; see https://discord\.com/d"
    ) as told:
        await core.start()
    assert "wrong" not in str(told.value)
    assert loopback.wires == []


async def test_token_refused_by_the_gateway(prepare: Prepare, loopback: Loopback) -> None:
    """So is one that only the gateway refuses (4004)."""
    loopback.identify_closes_with = 4004
    with pytest.raises(ConfigError, match="token: Discord refuses it"):
        await prepare().start()


@pytest.mark.parametrize("flags", [None, 0])
@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        (PRESENCES, "Presence Intent"),
        (MEMBERS, "Server Members Intent"),
        (CONTENT, "Message Content Intent"),
        (PRESENCES | MEMBERS, "Presence Intent, Server Members Intent"),
    ],
)
async def test_intents_missing(
    prepare: Prepare, loopback: Loopback, lacking: int, named: str, flags: int | None
) -> None:
    """Privileged intents that are switched off are named, with where to switch them on; where
    Discord's gateway alone says so (4014), all that are needed."""
    loopback.allowed &= ~lacking
    loopback.flags = flags
    with pytest.raises(ConfigError, match="privileged intents are switched off") as told:
        await prepare().start()
    if flags == 0:
        named = "Presence Intent, Server Members Intent, Message Content Intent"
    assert f"switched off: {named}; switch them on at https://discord.com/dev" in str(told.value)
    assert bool(loopback.identifies) == (flags == 0)


async def test_content_is_not_needed(begin: Begin, loopback: Loopback) -> None:
    """Without chat the intent for message content is not missed."""
    loopback.allowed &= ~CONTENT
    loopback.guilds = [club()]
    core = await begin(chat="off")
    await core.whole()


@pytest.mark.parametrize(
    ("code", "text"), [(4010, "4010"), (4011, "sharding required"), (4012, "4012"), (4013, "4013")]
)
async def test_gateway_refuses(prepare: Prepare, loopback: Loopback, code: int, text: str) -> None:
    """What else the gateway refuses for good is said in one line."""
    loopback.identify_closes_with = code
    with pytest.raises(ConfigError, match=text):
        await prepare().start()


async def test_rest_is_down(prepare: Prepare, loopback: Loopback) -> None:
    """Where Discord fails, the start fails and may be tried again, with a new pair of calls."""
    loopback.guilds = [club()]
    loopback.answers["/users/@me"] = [failing(403)]
    core = prepare()
    with pytest.raises(Exception, match="403") as told:
        await core.start()
    assert not isinstance(told.value, ConfigError)
    await core.stop()
    await core.start()
    await core.whole()


async def test_rate_limited_login(begin: Begin, loopback: Loopback) -> None:
    """A 429 is waited for, as long as Discord says, and the login succeeds then."""
    loopback.guilds = [club()]
    loopback.answers["/users/@me"] = [limited(0.01)]
    core = await begin()
    await core.whole()
    assert [path for _, path, _ in loopback.requests][:2] == ["/users/@me", "/users/@me"]


PAGE = "<!DOCTYPE html>\n<html><head>\n<title>Access denied</title></head>" + "<p>x</p>" * 500


async def test_page_of_cloudflare(prepare: Prepare, loopback: Loopback) -> None:
    """A page instead of an answer is one short line, and Discord is left alone for as long as its
    Retry-After says."""
    headers = {"Content-Type": "text/html", "Retry-After": "1800"}

    async def banned(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, text=PAGE, headers=headers)

    loopback.answers["/users/@me"] = [banned]
    loopback.guilds = [club()]
    core = prepare()
    with pytest.raises(ConnectionError, match=r"page .* \(status 429.*: Access denied$") as told:
        await core.start()
    assert len(str(told.value)) < 120
    await core.stop()
    await core.clock.advance(1700)
    with pytest.raises(ConnectionError, match=r"limits the requests.* in 100 s"):
        await core.start()
    assert len(loopback.requests) == 1
    await core.stop()
    await core.clock.advance(100)
    await core.start()
    await core.whole()


async def test_long_rate_limit_at_login(prepare: Prepare, loopback: Loopback) -> None:
    """A limit that is too long to be waited for in a start is waited for by the next ones."""
    loopback.answers["/users/@me"] = [limited(600)]
    core = prepare()
    with pytest.raises(ConnectionError, match="Discord limits the requests"):
        await core.start()
    await core.stop()
    with pytest.raises(ConnectionError, match="the next login is possible in 600 s"):
        await core.start()
    assert len(loopback.requests) == 1


async def test_resume(begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    """A lost connection is resumed where the gateway says: nothing is missed, nothing is read
    again, and the provider is not degraded."""
    caplog.set_level(*SILENT)
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.drop(4000)
    await core.happen("PRESENCE_UPDATE", say.presence(2, "dnd", say.GUILD_ID))
    await until(lambda: loopback.resumes)
    assert await core.heard() == [
        UserChanged(server_id=say.GUILD_ID, uid=say.uid(2), status="dnd")
    ]
    await core.clock.advance(60)
    assert core.degraded == []
    assert [resume["path"] for resume in loopback.resumes] == ["/gateway/again"]
    lines = [line for line in caplog.messages if "sum" in line]
    assert lines == [
        "disconnected from Discord, resuming",
        "resumed the session with Discord",
    ]


async def test_asked_to_reconnect(begin: Begin, loopback: Loopback) -> None:
    """The gateway's RECONNECT is followed by a resume."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.send(7, None)
    await until(lambda: loopback.resumes)
    assert await core.heard() == []


async def test_session_invalidated(begin: Begin, loopback: Loopback) -> None:
    """When a session ends for good, the data may be old until all is read again, and what was
    known answers meanwhile."""
    loopback.guilds = [club()]
    core = await begin()
    before = await core.whole()
    loopback.guilds = [say.guild(members=[BOB, EVE], presences=[say.presence(99, "idle")])]
    await loopback.send(9, payload=False)
    await until(lambda: not loopback.wires)
    assert await core.users() == before
    await core.wait(lambda: core.recovered)
    assert core.degraded[-1] == "Discord has begun a new session, reading everything again"
    assert await core.whole() == {
        say.uid(2): User(username="Bob", status="offline", role_color="#ffffff"),
        say.uid(99): User(username="eve", status="idle", role_color="#ffffff"),
    }
    assert core.recovered == 1


async def test_identify_refused_for_now(prepare: Prepare, loopback: Loopback) -> None:
    """An IDENTIFY that is refused fails the start, and the next one says until when it has to
    wait."""
    loopback.refuse_sessions = 1
    loopback.guilds = [club()]
    core = prepare()
    with pytest.raises(ConnectionError, match="Discord ended the session; a new session in "):
        await core.start()
    await core.stop()
    with pytest.raises(ConnectionError, match=r"the next login is possible in [56] s"):
        await core.start()
    await core.stop()
    await core.clock.advance(7)
    await core.start()
    await core.whole()
    assert len(loopback.identifies) == 2


async def test_left_while_disconnected(begin: Begin, loopback: Loopback) -> None:
    """A guild that was left while the connection was lost is gone with the new session."""
    loopback.guilds = [club(), say.guild("400000000000000001", "Other", members=[EVE])]
    core = await begin()
    await core.whole()
    loopback.guilds, loopback.resumable = loopback.guilds[:1], False
    loopback.cut()
    await core.wait(lambda: core.recovered)
    assert list(await core.provider.servers() or {}) == [say.GUILD_ID]


async def test_connection_lost(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is not resumed within seconds makes the data doubtful; a resume ends
    that. Attempts are lines in the log, not tracebacks."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    loopback.open_to_gateway = False
    loopback.cut()
    await core.wait(lambda: core.degraded)
    assert core.degraded == ["the connection to Discord is lost"]
    await core.wait(lambda: "connecting again in 1 s" in caplog.text)
    assert len(await core.users()) == 5
    loopback.open_to_gateway = True
    await core.wait(lambda: core.recovered)
    assert await core.heard() == []
    assert "Traceback" not in caplog.text


async def test_outage(begin: Begin, loopback: Loopback) -> None:
    """After an outage of hours the bot is back within a minute and a quarter, in the same
    session: an outage costs no IDENTIFY."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    loopback.open_to_gateway = False
    loopback.cut()
    await core.wait(lambda: core.degraded)
    before = core.clock.time()
    await core.wait(lambda: core.clock.time() > before + 7200, step=30)
    loopback.open_to_gateway = True
    before = core.clock.time()
    await core.wait(lambda: core.recovered)
    assert core.clock.time() - before <= 76
    assert await core.heard() == []
    assert len(loopback.identifies) == len(loopback.resumes) == 1


async def test_nonsense_of_the_gateway(begin: Begin, loopback: Loopback) -> None:
    """A frame that is not as Discord documents it ends the connection, not the bot."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.send(10, {"interval": "soon"})
    await core.wait(lambda: core.recovered)
    assert any("Discord sends an unreadable frame: KeyError" in each for each in core.degraded)
    await core.whole()


async def test_asked_for_a_heartbeat(begin: Begin, loopback: Loopback) -> None:
    """A heartbeat that the gateway asks for is sent at once."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.send(1, None)
    await until(lambda: loopback.heartbeats)
    assert await core.heard() == []


@pytest.mark.parametrize("code", [4000, 4001, 4002, 4005, 4008, 1000, 1001])
async def test_close_codes_that_are_resumed(begin: Begin, loopback: Loopback, code: int) -> None:
    """After these close codes the session goes on."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.drop(code)
    await core.wait(lambda: loopback.resumes)
    assert await core.heard() == []
    assert len(loopback.identifies) == 1


@pytest.mark.parametrize("code", [4003, 4006, 4007, 4009])
async def test_close_codes_that_end_the_session(
    begin: Begin, loopback: Loopback, code: int
) -> None:
    """After these a new one begins, without a RESUME that would be refused."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.drop(code)
    await core.wait(lambda: core.recovered)
    assert len(loopback.identifies) == 2
    assert loopback.resumes == []


async def test_r19_frames_that_are_here_already(
    begin: Begin, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R19 Other tasks run while frames are taken that have come together."""
    taken = asyncio.Event()
    turns: list[int] = []
    take = OwnClient.take

    def counted(client: OwnClient, event: str, fields: object, shard: int) -> None:
        turns.append(turn)
        take(client, event, fields, shard)
        if len(turns) == FRAMES:
            taken.set()

    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    monkeypatch.setattr(gateway, "MAX_BUSY", 0.0)
    monkeypatch.setattr(OwnClient, "take", counted)
    turn = 0
    async with asyncio.TaskGroup() as group:
        for number in range(FRAMES):
            status = ("dnd", "idle")[number % 2]
            group.create_task(
                core.happen("PRESENCE_UPDATE", say.presence(2, status, say.GUILD_ID))
            )
    while not taken.is_set():
        turn += 1
        await asyncio.sleep(0)
    assert len(set(turns)) == FRAMES


async def test_session_is_too_old(begin: Begin, loopback: Loopback) -> None:
    """A session that has timed out (4009, as the answer to RESUME) is followed by a new one."""
    loopback.guilds, loopback.timed_out = [club()], True
    core = await begin()
    await core.whole()
    loopback.cut()
    await core.wait(lambda: core.recovered)
    assert len(loopback.resumes) == 1
    assert len(loopback.identifies) == 2


async def test_sequence_that_never_was(begin: Begin, loopback: Loopback) -> None:
    """So is one of which Discord does not know the last number any more (4007)."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    loopback.sessions[0].sent.clear()
    loopback.cut()
    await core.wait(lambda: core.recovered)
    assert len(loopback.resumes) == 1
    assert len(loopback.identifies) == 2


async def test_invalid_session_that_can_be_resumed(begin: Begin, loopback: Loopback) -> None:
    """INVALID_SESSION with ``true`` is followed by a RESUME, and costs no IDENTIFY."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await loopback.send(9, payload=True)
    await core.wait(lambda: loopback.resumes)
    assert await core.heard() == []
    assert len(loopback.identifies) == 1


async def test_resume_that_is_never_taken(begin: Begin, loopback: Loopback) -> None:
    """A session that Discord calls resumable and does not resume is given up after five
    attempts."""
    loopback.guilds, loopback.invalid_sessions, loopback.resumable = [club()], True, False
    core = await begin()
    await core.whole()
    loopback.cut()
    await core.wait(lambda: core.recovered)
    assert len(loopback.resumes) == 5
    assert len(loopback.identifies) == 2


async def test_resume_address_is_gone(begin: Begin, loopback: Loopback) -> None:
    """Where the address to resume at takes no connection, the usual one is tried after a while,
    and the session goes on."""
    loopback.guilds, loopback.open_again = [club()], False
    core = await begin()
    await core.whole()
    loopback.cut()
    await core.wait(lambda: loopback.resumes)
    assert [resume["path"] for resume in loopback.resumes] == ["/gateway"]
    assert await core.heard() == []
    assert len(loopback.identifies) == 1


async def test_no_hello(prepare: Prepare, loopback: Loopback) -> None:
    """A gateway that takes the connection and sends no HELLO gets no IDENTIFY, and the start fails
    after half a minute."""
    loopback.greets = False
    core = prepare()
    starting = core.starting()
    await core.wait(starting.done)
    assert isinstance(starting.exception(), ConnectionError)
    assert loopback.identifies == []


async def next_heartbeat(core: Core) -> None:
    before = core.loopback.heartbeats
    await core.wait(lambda: core.loopback.heartbeats > before)


async def test_acks_do_not_come(begin: Begin, loopback: Loopback) -> None:
    """A connection on which events come and no ACK is given up after three heartbeats, and
    resumed."""
    loopback.guilds, loopback.acknowledges = [club()], False
    core = await begin()
    await core.whole()
    for _ in range(3):
        await next_heartbeat(core)
        assert loopback.resumes == []
        await core.heard()
    loopback.acknowledges = True
    await core.wait(lambda: loopback.resumes)
    assert await core.heard() == []
    assert len(loopback.identifies) == 1


async def test_no_heartbeat_is_answered(begin: Begin, loopback: Loopback) -> None:
    """A connection on which nothing comes after a heartbeat is given up, and resumed."""
    loopback.guilds, loopback.deaf = [club()], True
    core = await begin()
    await core.whole()
    await core.clock.advance(30)
    loopback.deaf = False
    await core.wait(lambda: loopback.resumes)
    assert await core.heard() == []


async def test_lost_while_guilds_come(begin: Begin, loopback: Loopback) -> None:
    """A connection that is lost while guilds were still to come is as lost as any other."""
    loopback.guilds = [club(), {"id": "400000000000000001", "unavailable": True}]
    core = await begin()
    await core.whole()
    loopback.open_to_gateway = False
    loopback.cut()
    await until(lambda: not loopback.wires)
    await core.wait(lambda: core.degraded)
    assert core.recovered == 0


async def test_other_logs_stay(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """What another bot in the process logs keeps its traceback."""
    loopback.guilds = [club()]
    await begin()
    try:
        int("of another bot")
    except ValueError:
        logging.getLogger("discord.client").exception("Attempting a reconnect")
    assert "Traceback" in caplog.text


REFUSED = {
    4004: "Discord refuses it",
    4010: "refuses the shard",
    4011: "sharding required",
    4012: "refuses the version of its protocol",
    4013: "refuses the intents",
    4014: "switched off",
}


@pytest.mark.parametrize("code", REFUSED)
async def test_refused_later(begin: Begin, loopback: Loopback, code: int) -> None:
    """A bot that Discord refuses while it runs says why, keeps what it knows, and tries again
    after a while: not even once in five minutes."""
    loopback.guilds = [club()]
    core = await begin()
    before = await core.whole()
    loopback.resumable = False
    loopback.identify_closes_with = code
    loopback.cut()
    await core.wait(lambda: any(REFUSED[code] in reason for reason in core.degraded))
    assert await core.users() == before
    for _ in range(60):
        await core.clock.advance(60)
    assert 2 <= len(loopback.identifies) <= 12
    loopback.identify_closes_with = None
    await core.wait(lambda: core.recovered)
    assert await core.whole() == before


async def test_unreadable_event(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that discord.py cannot parse is skipped, and the log names its type and guild."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("GUILD_MEMBER_ADD", {"guild_id": say.GUILD_ID})
    assert await core.heard() == []
    assert core.degraded == []
    assert f"GUILD_MEMBER_ADD of guild 'D-World' ({say.GUILD_ID}) is skipped" in caplog.text
    assert len(loopback.identifies) == 1


async def test_unknown_event(begin: Begin, loopback: Loopback) -> None:
    """An unknown kind of event, and an unknown member, do no harm."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    await core.happen("GUILD_SOMETHING_NEW", {"guild_id": say.GUILD_ID, "x": 1})
    await core.happen("PRESENCE_UPDATE", say.presence(2, "dnd", "404404404404404404"))
    assert await core.heard() == []


async def test_start_and_stop_in_pairs(prepare: Prepare, loopback: Loopback) -> None:
    """The same instance can be started again; stopping twice, or without a start, is fine."""
    loopback.guilds = [club()]
    core = prepare()
    await core.provider.stop()
    for _ in range(2):
        await core.clock.advance(10)
        await core.start()
        users = await core.whole()
        await core.stop()
        assert await core.provider.users(say.GUILD_ID) is None
        assert await core.provider.servers() is None
        await until(lambda: not loopback.wires)
        assert len(users) == 5
    await core.provider.stop()


async def test_stop_while_it_starts(prepare: Prepare, loopback: Loopback) -> None:
    """A start that is given up leaves nothing behind."""
    loopback.deaf = True
    core = prepare()
    starting = core.starting()
    await until(lambda: loopback.wires)
    starting.cancel()
    await core.stop()
    await until(lambda: not loopback.wires)


async def test_stop_leaves_nothing(prepare: Prepare, loopback: Loopback) -> None:
    """When a stop returns, no task and no thread of ours or of discord.py's is left."""
    threads = {thread.name for thread in threading.enumerate()}
    loopback.guilds = [club()]
    core = prepare()
    await core.start()
    await core.provider.stop()
    code = [task.get_coro().cr_code for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    places = [each.co_filename for each in code if "discord" in each.co_filename]
    assert [place for place in places if "/tests/" not in place] == []
    assert {thread.name for thread in threading.enumerate()} <= threads


async def test_no_farewell(
    begin: Begin, loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway that does not answer the close frame holds up a stop for less than a second, and
    its socket is closed all the same."""
    loopback.guilds, loopback.deaf = [club()], True
    core = await begin()
    await core.whole()
    await core.stop()
    await until(lambda: not loopback.wires)
    del core
    gc.collect()
    assert "Unclosed" not in caplog.text


async def test_stop_while_members_come(begin: Begin, loopback: Loopback) -> None:
    """A stop does not wait for members."""
    loopback.guilds = [club(member_count=300)]
    loopback.hold_members = True
    core = await begin()
    await until(lambda: loopback.member_requests)
    await core.stop()


async def test_stop_while_disconnected(begin: Begin, loopback: Loopback) -> None:
    """A stop does not wait for the next attempt to reconnect."""
    loopback.guilds = [club()]
    core = await begin()
    await core.whole()
    loopback.open_to_gateway = False
    loopback.cut()
    await core.wait(lambda: core.degraded)
    await core.stop()
    assert not [thread for thread in threading.enumerate() if "alive" in thread.name]
