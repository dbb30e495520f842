"""Questions of edges to the origin, not readable by others who can read what NATS carries.

A question is sealed to the origin's key, which is made at each start and which only who may
write the bucket can publish. It brings a key of its own, made for this one question; who can
encrypt the answer with that has read the question, so the answer is the origin's.
"""

from __future__ import annotations

import base64

import msgspec
from msgspec import Struct
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import SecretBox
from nacl.utils import random

from d_back_core import Credentials, Grant
from d_back_nats.failure import NatsError

ANSWER_SIZE = 256
"""Bytes of every answer: their length says nothing."""


class Question(Struct, frozen=True, gc=False):
    """May a client join? Or, with ``person``: does that grant still hold? Never printed."""

    server_id: str
    address: str
    key: bytes
    """What the answer is to be encrypted with."""
    password: str | None = None
    discord_token: str | None = None
    discord_user: dict[str, object] | None = None
    person: str | None = None
    """The ``person`` of a `Grant` that the origin gave."""

    def __repr__(self) -> str:
        return f"Question(server_id={self.server_id!r}, ***)"

    @property
    def credentials(self) -> Credentials:
        return Credentials(
            password=self.password,
            discord_token=self.discord_token,
            discord_user=self.discord_user,
        )


class Answer(Struct, frozen=True, gc=False, omit_defaults=True):
    """The origin's answer."""

    verdict: bool | None = None
    """None: the origin cannot say now."""
    person: str | None = None
    """Of the `Grant`, if the access can end."""
    expires_after: float = 0.0

    @classmethod
    def of(cls, admitted: bool | Grant) -> Answer:  # noqa: FBT001  what the core returns
        """Return the answer to a join."""
        if isinstance(admitted, Grant):
            return cls(verdict=True, person=admitted.person, expires_after=admitted.expires_after)
        return cls(verdict=admitted)


class Seal:
    """The origin's key."""

    def __init__(self) -> None:
        self._private = PrivateKey.generate()

    @property
    def public(self) -> str:
        """What questions are to be sealed to, base64."""
        return base64.b64encode(bytes(self._private.public_key)).decode()

    def opened(self, sealed: bytes) -> Question | None:
        """The question; None where it is none, or was sealed to another key."""
        try:
            return msgspec.msgpack.decode(SealedBox(self._private).decrypt(sealed), type=Question)
        except (CryptoError, msgspec.DecodeError, TypeError, ValueError):
            return None


def asked(public: str, server_id: str, credentials: Credentials, address: str) -> Asked:
    """Return the question if a client may join, sealed to that key; raises `NatsError` if it is
    not a key."""
    user = credentials.discord_user
    question = Question(
        server_id,
        address,
        random(SecretBox.KEY_SIZE),
        credentials.password,
        credentials.discord_token,
        None if user is None else dict(user),
    )
    return _sealed(public, question)


def asked_again(public: str, server_id: str, person: str) -> Asked:
    """Return the question if a grant still holds, as `asked` does."""
    return _sealed(public, Question(server_id, "", random(SecretBox.KEY_SIZE), person=person))


def _sealed(public: str, question: Question) -> Asked:
    try:
        box = SealedBox(PublicKey(base64.b64decode(public, validate=True)))
    except (CryptoError, TypeError, ValueError) as error:
        raise NatsError("the origin has published no key that can be sealed to") from error
    return Asked(box.encrypt(msgspec.msgpack.encode(question)), question.key)


class Asked(Struct, frozen=True, gc=False):
    """A question on its way."""

    sealed: bytes
    key: bytes

    def __repr__(self) -> str:
        return "Asked(***)"

    def opened(self, answer: bytes) -> Answer:
        """Return the origin's answer to this very question; without a verdict if it is not."""
        try:
            return msgspec.json.decode(SecretBox(self.key).decrypt(answer), type=Answer)
        except (CryptoError, msgspec.DecodeError, TypeError, ValueError):
            return Answer()


def answered(question: Question, answer: Answer) -> bytes:
    """Return the answer, readable by the edge that asked."""
    return bytes(SecretBox(question.key).encrypt(msgspec.json.encode(answer).ljust(ANSWER_SIZE)))
