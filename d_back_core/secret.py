"""Values that never appear in a log, error, frame, metric or repr."""

import base64
import hashlib
import hmac
import secrets

SCRYPT_N, SCRYPT_R, SCRYPT_P = 16384, 8, 1
INVALID_HASH = "is not a valid hash (expected scrypt$n$salt$r$p$hash)"
_SCRYPT_MEMORY = 128 * 1024 * 1024
"""Bytes; the parameters of a hash that needs more are refused."""


class Secret:
    """A token, password or DSN from the configuration."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the plain value. Pass it only to the code that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    def __hash__(self) -> int:
        return hash(self._value)

    @property
    def is_hash(self) -> bool:
        """True if the value is a hash from `hash_password`, not a plain password."""
        return self._value.startswith("scrypt$")

    def check_hash(self) -> None:
        """Raise ``ValueError`` if the value is a hash that cannot be verified."""
        if self.is_hash:
            digest = self._value.rsplit("$", 1)[1]
            if len(digest) != len(_scrypt("", self._value)) or not digest.isascii():
                raise ValueError(INVALID_HASH)

    def matches(self, password: str) -> bool:
        """Compare in constant time. A hash takes about 50 ms of CPU: use
        `state.access.verified`."""
        if self.is_hash:
            expected = self._value.rsplit("$", 1)[1]
            return hmac.compare_digest(_scrypt(password, self._value), expected)
        return hmac.compare_digest(_bytes(self._value), _bytes(password))


def hash_password(password: str) -> str:
    """Return ``scrypt$n$salt$r$p$hash``, the format of Django's ``ScryptPasswordHasher``."""
    salt = secrets.token_urlsafe(16)
    parameters = f"scrypt${SCRYPT_N}${salt}${SCRYPT_R}${SCRYPT_P}"
    return f"{parameters}${_scrypt(password, f'{parameters}$')}"


def _scrypt(password: str, encoded: str) -> str:
    try:
        _, n, salt, r, p, _ = encoded.split("$")
        digest = hashlib.scrypt(
            _bytes(password),
            salt=salt.encode(),
            n=int(n),
            r=int(r),
            p=int(p),
            maxmem=_SCRYPT_MEMORY,
            dklen=64,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(INVALID_HASH) from error
    return base64.b64encode(digest).decode("ascii")


def _bytes(text: str) -> bytes:
    """Encode injectively, lone surrogates included: JSON from a client can contain them."""
    return text.encode(errors="surrogatepass")
