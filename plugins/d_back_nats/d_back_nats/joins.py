"""The origin's answers to edges that ask who may join, and who may stay."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from nats.aio.msg import Msg

from d_back_core import Context
from d_back_nats.connection import Line
from d_back_nats.failure import FAILURES
from d_back_nats.sealing import Answer, Question, Seal, answered
from d_back_nats.tasks import start_task, stop_tasks

MAX_QUESTIONS = 1000
"""Joins that are decided at the same time; further ones get no answer, which is a no."""


class JoinAnswers:
    """Answers over one connection, from `begin` to `end`."""

    def __init__(
        self, context: Context, line: Line, seal: Seal, failed: Callable[[str], None]
    ) -> None:
        self._context = context
        self._line = line
        self._seal = seal
        self._failed = failed
        self._questions: set[asyncio.Task[None]] = set()
        self._subscription: object = None

    async def begin(self, subject: str) -> None:
        """Subscribe to the edges' questions."""
        self._subscription = await self._line.client.subscribe(subject, cb=self._asked)

    async def end(self) -> None:
        """Answer no more questions."""
        if self._subscription is not None and not self._line.lost.is_set():
            with suppress(*FAILURES):
                await self._subscription.unsubscribe()  # type: ignore[attr-defined]
        await stop_tasks(*self._questions)

    async def _asked(self, message: Msg) -> None:
        if len(self._questions) < MAX_QUESTIONS:
            task = start_task(self._answer(message), "d_back_nats question", self._failed)
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)

    async def _answer(self, message: Msg) -> None:
        question = self._seal.opened(message.data)
        if question is None or not message.reply:
            return
        answer = await self._decided(question)
        if not self._line.lost.is_set():
            with suppress(*FAILURES):  # an edge without an answer takes it for a no
                await self._line.client.publish(message.reply, answered(question, answer))

    async def _decided(self, question: Question) -> Answer:
        context, server_id = self._context, question.server_id
        if question.person is not None:
            return Answer(await context.reauthorize(server_id, question.person))
        return Answer.of(
            await context.authorize(server_id, question.credentials, question.address)
        )
