"""What the real d-zone client was told by d-back 0.0.18, frame by frame: told again, the same.

``frames.json`` is a recording in a browser. The gateway may add fields and changes none.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Dial, Frame, news

from d_back_core import Message, Server, User, UserChanged
from d_back_core.embedding.server import WebSocketServer
from d_back_testing import ScriptedProvider

RECORDING = json.loads(Path(__file__).with_name("frames.json").read_text())["frames"]
D_WORLD = "232769614004748288"


def received(kind: str) -> Iterator[Frame]:
    """What the browser was told, of that type."""
    for entry in RECORDING:
        if (entry["direction"], entry["type"]) == ("received", kind):
            yield json.loads(entry["text"])


def sent() -> Iterator[str]:
    """What the browser said, byte for byte."""
    return (entry["text"] for entry in RECORDING if entry["direction"] == "sent")


@pytest.fixture
def demo() -> ScriptedProvider:
    """A provider of the servers and users of the recording."""
    servers = next(received("server-list"))["data"]
    users = next(received("server-join"))["data"]["users"]
    return ScriptedProvider(
        {key: Server(**fields) for key, fields in servers.items()},
        {
            D_WORLD: {
                uid: User(
                    username=user["username"], status=user["status"], role_color=user["roleColor"]
                )
                for uid, user in users.items()
            }
        },
    )


def event(frame: Frame) -> UserChanged | Message:
    """What a provider says for that frame to be sent."""
    said: dict[str, Any] = frame["data"]
    if frame["type"] == "message":
        return Message(server_id=frame["server"], **said)
    return UserChanged(server_id=frame["server"], uid=said["uid"], status=said["status"])


async def test_the_list_of_servers_is_the_recorded_one(dial: Dial, demo: ScriptedProvider) -> None:
    """Nothing was added to server-list, nothing left out, and the order is the same."""
    async with WebSocketServer(0, providers={"demo": demo}) as server:
        listed = await (await dial(server, greeted=False)).receive()
        (recorded,) = received("server-list")
        assert listed == recorded
        assert [*listed["data"]] == [*recorded["data"]]


async def test_the_recorded_connect_is_answered_as_recorded(
    dial: Dial, demo: ScriptedProvider
) -> None:
    """The join has what d-zone was given, and besides the place in the sequence. Only what was
    asked for is named instead of "default", so that d-zone's URL names the server."""
    async with WebSocketServer(0, providers={"demo": demo}) as server:
        peer = await dial(server)
        (connect,) = sent()
        await peer.connection.send(connect)
        joined = await peer.expect("server-join")
        (recorded,) = received("server-join")
        assert joined["data"].pop("seq") == 0
        assert joined["data"].pop("epoch")
        assert recorded["data"]["request"] == {"server": "default"}
        recorded["data"]["request"] = {"server": "dworld"}
        assert joined == recorded


async def test_the_recorded_changes_are_told_as_recorded(
    dial: Dial, demo: ScriptedProvider
) -> None:
    """Every recorded presence and message comes as it was, with its number; only a status that
    the user has already is not told again."""
    recorded = [
        json.loads(entry["text"])
        for entry in RECORDING
        if entry["type"] in {"presence", "message"}
    ]
    async with WebSocketServer(0, providers={"demo": demo}) as server:
        peer = await dial(server)
        joined = await peer.join()
        demo.emit(*(event(frame) for frame in recorded))
        frames = await news(server, peer)
        assert [frame.pop("seq") for frame in frames] == [*range(1, len(frames) + 1)]
        assert frames == list(telling(joined["users"], recorded))


def telling(users: dict[str, Any], frames: list[Frame]) -> Iterator[Frame]:
    """The frames without those that say what is so already."""
    status = {uid: user["status"] for uid, user in users.items()}
    for frame in frames:
        said = frame["data"]
        if frame["type"] == "message" or said["status"] != status[said["uid"]]:
            yield frame
        if frame["type"] == "presence":
            status[said["uid"]] = said["status"]


def test_the_recording_is_one() -> None:
    """It holds every kind of frame that these tests speak of."""
    kinds = {(entry["direction"], entry["type"]) for entry in RECORDING}
    told = {("received", kind) for kind in ("server-list", "server-join", "presence", "message")}
    assert kinds == told | {("sent", "connect")}
