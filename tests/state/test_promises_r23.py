"""What waits for a recorder that does not store: bounded, and complete within its bounds (R23)."""

import logging
from collections.abc import Sequence

import pytest
from sample_users import ADA, BOB, ONE

from d_back_core import Change, Message, Reload, Snapshot, hookimpl
from d_back_core.providers import recorder_queue
from d_back_testing import ScriptedProvider, configured, served

RECORDED = {"order": ["a"], "recorders": ["r"]}


class Recorder(ScriptedProvider):
    """A recorder of the public state that remembers what it is given."""

    records = "public"

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Change] = []
        self.failing = False

    @hookimpl
    async def record(self, changes: Sequence[Change]) -> None:
        await self._called("record")
        if self.failing:
            raise RuntimeError("full")
        self.got += changes

    @property
    def texts(self) -> list[str]:
        return [change.message for change in self.got if isinstance(change, Message)]


def town() -> ScriptedProvider:
    return ScriptedProvider(ONE, {"1": {"7": ADA, "8": BOB}})


def chat(text: str, uid: str = "7") -> Message:
    return Message(server_id="1", uid=uid, message=text, channel="c")


async def test_r23_every_message_that_waits_is_stored_in_order() -> None:
    """A newer message does not replace an older one."""
    source, recorder = town(), Recorder()
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        recorder.hold("record")
        source.emit(*(chat(f"{number}") for number in range(5)))
        await gateway.settle()
        recorder.release("record")
        await gateway.settle()
        assert recorder.texts == ["0", "1", "2", "3", "4"]


async def test_r23_of_too_many_messages_the_oldest_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Users are never dropped for them."""
    monkeypatch.setattr(recorder_queue, "MAX_MESSAGES", 2)
    source, recorder = town(), Recorder()
    recorder.failing = True
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        source.emit(*(chat(f"{number}") for number in range(5)))
        await gateway.settle()
        recorder.failing = False
        await gateway.advance(70)
        assert recorder.texts == ["3", "4"]
        assert any(isinstance(change, Snapshot) for change in recorder.got)


async def test_r23_messages_that_have_waited_too_long_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After an outage a recorder receives recent chat only, and all users; the log says it."""
    source, recorder = town(), Recorder()
    recorder.failing = True
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        source.emit(chat("old"), chat("old, too"))
        await gateway.advance(recorder_queue.MAX_MESSAGE_AGE - 120)
        source.emit(chat("recent"))
        await gateway.advance(120)
        assert recorder.texts == []
        recorder.failing = False
        await gateway.advance(70)
        assert recorder.texts == ["recent"]
        assert any(isinstance(change, Snapshot) for change in recorder.got)
        assert "recorder r: 2 chat messages waited too long, dropped" in caplog.text


async def test_r23_a_queue_of_old_messages_only_becomes_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The recorder is not called without a change, and a flush does not wait."""
    monkeypatch.setattr(recorder_queue, "MAX_MESSAGE_AGE", 0.1)
    source, recorder = town(), Recorder()
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        recorder.got.clear()
        recorder.failing = True
        source.emit(chat("old"))
        await gateway.settle()
        [queue] = gateway.live.providers.recorder_queues
        assert queue.waiting == 1
        calls = recorder.calls.count("record")
        await gateway.advance(70)
        assert queue.waiting == 0
        assert recorder.calls.count("record") == calls
        await queue.flush()


async def test_r23_snapshots_replace_each_other_while_a_recorder_is_down() -> None:
    """However often a provider is fetched, the queue does not grow."""
    source, recorder = town(), Recorder()
    recorder.failing = True
    async with served({"a": source, "r": recorder}, chain=RECORDED) as gateway:
        await gateway.settle()
        [queue] = gateway.live.providers.recorder_queues
        waiting = queue.waiting
        for _ in range(5):
            source.emit(Reload())
            await gateway.settle()
        assert queue.waiting == waiting
        recorder.failing = False
        await gateway.advance(70)


async def test_r23_only_the_first_failure_is_a_warning_and_names_the_recorder(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Retries are logged at debug level."""
    caplog.set_level(logging.DEBUG, "d_back.queue")
    recorder = Recorder()
    recorder.failing = True
    async with served({"a": town(), "r": recorder}, chain=RECORDED) as gateway:
        await gateway.advance(70)
        recorder.failing = False
        await gateway.advance(70)
    failures = [each for each in caplog.records if each.name == "d_back.queue"]
    assert len(failures) > 1
    assert {each.getMessage() for each in failures} == {"provider r: record: RuntimeError: full"}
    levels = [each.levelno for each in failures]
    assert levels == [logging.WARNING] + [logging.DEBUG] * (len(levels) - 1)


async def test_r11_chat_of_an_ignored_user_is_neither_sent_nor_recorded() -> None:
    """As soon as a reload ignores the user."""
    source, recorder = town(), Recorder()
    providers = {"a": source, "r": recorder}
    policies = {"1": {"ignore_users": ["8"]}}
    async with served(providers, chain=RECORDED) as gateway:
        await gateway.settle()
        source.emit(chat("before", "8"))
        await gateway.settle()
        await gateway.server.reload(configured("a", chain=RECORDED, policies=policies))
        source.emit(chat("ignored", "8"), chat("shown", "7"))
        await gateway.settle()
        assert recorder.texts == ["before", "shown"]
        assert gateway.live.counters.chat_dropped == 0
