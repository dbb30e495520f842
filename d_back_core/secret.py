"""Values that must not be seen: in no log, error, frame, metric or repr."""

import base64
import hashlib
import hmac
import secrets

SCRYPT_N, SCRYPT_R, SCRYPT_P = 16384, 8, 1
NO_HASH = "is no scrypt$n$salt$r$p$hash"
_SCRYPT_MEMORY = 128 * 1024 * 1024


class Secret:
    """A token, password or DSN of the configuration."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; hand it on to what needs it and to nothing else."""
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
        """Whether it is not the password but its `hash_password`."""
        return self._value.startswith("scrypt$")

    def check_hash(self) -> None:
        """Raise ``ValueError`` if it begins as a hash and is none that can be verified."""
        if self.is_hash:
            digest = self._value.rsplit("$", 1)[1]
            if len(digest) != len(_scrypt("", self._value)) or not digest.isascii():
                raise ValueError(NO_HASH)

    def matches(self, password: str) -> bool:
        """Whether this is the password, in constant time. A hash takes some 50 ms of CPU: call
        it in a thread."""
        if self.is_hash:
            expected = self._value.rsplit("$", 1)[1]
            return hmac.compare_digest(_scrypt(password, self._value), expected)
        return hmac.compare_digest(_bytes(self._value), _bytes(password))


def hash_password(password: str) -> str:
    """``scrypt$n$salt$r$p$hash``, the format of Django's ``ScryptPasswordHasher``."""
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
        raise ValueError(NO_HASH) from error
    return base64.b64encode(digest).decode("ascii")


def _bytes(text: str) -> bytes:
    """The text, even where it holds a lone surrogate, and no two texts alike."""
    return text.encode(errors="surrogatepass")
