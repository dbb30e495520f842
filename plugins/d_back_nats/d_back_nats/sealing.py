"""Questions of edges to the origin, not readable for others who can read what NATS carries.

A question is sealed to the origin's key, which is made at each start and which only who may
write the bucket can publish. It brings a key of its own, made for this one question; who can
encrypt the answer with that has read the question, so the answer is the origin's.
"""

import base64

import msgspec
from msgspec import Struct
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.secret import SecretBox
from nacl.utils import random

from d_back_core import Credentials
from d_back_nats.failure import NatsError

YES, NO = b"yes", b"no."


class Question(Struct, frozen=True, gc=False):
    """May a client join? Never printed."""

    server_id: str
    address: str
    key: bytes
    """What the answer is to be encrypted with."""
    password: str | None = None
    discord_token: str | None = None
    discord_user: dict[str, object] | None = None

    def __repr__(self) -> str:
        return f"Question(server_id={self.server_id!r}, ***)"

    @property
    def credentials(self) -> Credentials:
        return Credentials(
            password=self.password,
            discord_token=self.discord_token,
            discord_user=self.discord_user,
        )


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


def asked(public: str, server_id: str, credentials: Credentials, address: str) -> "Asked":
    """A question, sealed to that key; raises `NatsError` where it is none."""
    user = credentials.discord_user
    question = Question(
        server_id,
        address,
        random(SecretBox.KEY_SIZE),
        credentials.password,
        credentials.discord_token,
        None if user is None else dict(user),
    )
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

    def is_yes(self, answer: bytes) -> bool:
        """Whether that is the origin's yes to this very question; anything else is a no."""
        try:
            return bytes(SecretBox(self.key).decrypt(answer)) == YES
        except (CryptoError, TypeError, ValueError):
            return False


def answered(question: Question, *, verdict: bool) -> bytes:
    """The answer, readable by who asked; yes and no are of one length."""
    return bytes(SecretBox(question.key).encrypt(YES if verdict else NO))
