"""Secrets are never seen, and passwords compare by value or by hash."""

import base64
import hashlib
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_back_core import Secret
from d_back_core.secret import hash_password

QUICK = "scrypt$2$c2FsdA$8$1$"
"""The parameters of a hash that takes no time."""


def hashed(password: str, parameters: str = QUICK) -> str:
    """A hash as Django's ``ScryptPasswordHasher`` writes it, made without our code."""
    _, n, salt, r, p, _ = parameters.split("$")
    digest = hashlib.scrypt(
        password.encode(), salt=salt.encode(), n=int(n), r=int(r), p=int(p), dklen=64
    )
    return parameters + base64.b64encode(digest).decode()


@given(st.text())
def test_a_secret_looks_the_same_whatever_it_is(value: str) -> None:
    """Neither repr, str, formatting nor a container's repr tells it, nor how long it is."""
    secret = Secret(value)
    assert repr(secret) == str(secret) == f"{secret}" == f"{secret!r}" == "***"
    assert str([secret]) == "[***]"
    assert secret.reveal() == value


def test_a_logged_secret_is_not_seen(caplog: pytest.LogCaptureFixture) -> None:
    """A log line that is given one shows the mask."""
    logging.getLogger("test").warning("token %s %r", Secret("hunter2"), {"t": Secret("hunter2")})
    assert "hunter2" not in caplog.text
    assert "token *** {'t': ***}" in caplog.text


def test_a_secret_has_no_attributes_to_dump() -> None:
    """What walks ``vars()`` finds nothing."""
    assert not hasattr(Secret("hunter2"), "__dict__")


def test_secrets_are_equal_by_value() -> None:
    """A re-read configuration with the same token counts as unchanged."""
    assert Secret("é") == Secret("é")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize("password", ["hunter2", "pässwörd", "🔑", "$", " spaces "])
def test_a_plain_password_matches_itself_only(password: str) -> None:
    """Any character may be in it."""
    secret = Secret(password)
    assert not secret.is_hash
    assert secret.matches(password)
    assert not secret.matches(password + "x")
    assert not secret.matches("")


@pytest.mark.parametrize("password", ["hunter2", "pässwörd", "🔑", "a$b"])
def test_a_hash_verifies_the_password_that_it_was_made_of(password: str) -> None:
    """The round trip of ``hash-password``."""
    secret = Secret(hash_password(password))
    secret.check_hash()
    assert secret.is_hash
    assert secret.matches(password)
    assert not secret.matches(password + "x")


def test_a_hash_is_not_its_own_password() -> None:
    """Who has read the hash cannot get in with it."""
    text = hash_password("hunter2")
    assert not Secret(text).matches(text)


def test_the_same_password_hashes_differently() -> None:
    """Each hash has a salt of its own."""
    assert hash_password("hunter2") != hash_password("hunter2")


def test_the_hash_has_django_s_format() -> None:
    """``scrypt$n$salt$r$p$hash``, with n = 2^14, r = 8, and 64 bytes in Base64."""
    kind, n, salt, r, p, digest = hash_password("hunter2").split("$")
    assert (kind, n, r, p) == ("scrypt", "16384", "8", "1")
    assert len(salt) >= 16
    assert len(base64.b64decode(digest, validate=True)) == 64


def test_a_hash_of_others_is_verified_with_its_own_parameters() -> None:
    """Django's hashes, with whatever cost, are accepted."""
    secret = Secret(hashed("hunter2", "scrypt$1024$c2FsdA$4$2$"))
    secret.check_hash()
    assert secret.matches("hunter2")
    assert not secret.matches("hunter3")


BAD_HASHES = {
    "too few parts": "scrypt$16384$salt$8$hash",
    "too many parts": hashed("x") + "$",
    "nothing else": "scrypt$",
    "n is no number": "scrypt$many$salt$8$1$" + "A" * 88,
    "n is no power of two": "scrypt$16383$salt$8$1$" + "A" * 88,
    "n needs too much memory": "scrypt$1073741824$salt$8$1$" + "A" * 88,
    "n is no C number": f"scrypt${10**40}$salt$8$1$" + "A" * 88,
    "r is zero": "scrypt$2$salt$0$1$" + "A" * 88,
    "p is negative": "scrypt$2$salt$8$-1$" + "A" * 88,
    "cut off": hashed("x")[:-1],
    "without its end": QUICK,
    "not Base64": QUICK + "é" * 88,
}


@pytest.mark.parametrize("text", BAD_HASHES.values(), ids=BAD_HASHES)
def test_a_hash_that_cannot_be_verified_is_refused(text: str) -> None:
    """It would lock everyone out; the error does not quote it."""
    with pytest.raises(ValueError, match=r"^is not a valid hash"):
        Secret(text).check_hash()


def test_a_plain_password_needs_no_check() -> None:
    """`check_hash` has nothing to say of it."""
    Secret("hunter2").check_hash()


def test_a_password_that_cannot_be_encoded_is_wrong() -> None:
    """A client's lone surrogate is no error of ours."""
    assert not Secret("hunter2").matches("\ud800")
    assert not Secret(hashed("hunter2")).matches("\ud800")
