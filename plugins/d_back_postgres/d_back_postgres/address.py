"""The address of the database: read when the configuration is loaded, so that no connection is
needed to find a mistake in it.

libpq has parameters that asyncpg does not know. asyncpg sends those to the server as settings,
which refuses the login. So each parameter is passed on, applied here, left out because it has no
effect in d-back, or refused by name. No error quotes the address: it contains the password.
"""

import ssl
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from msgspec import Struct, field

SCHEMES = ("postgresql://", "postgres://")
EXPECTED = "dsn: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE"

PASSED_ON: Final = frozenset(
    {
        *("host", "port", "dbname", "database", "user", "password", "passfile", "service"),
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs"),
        *("krbsrvname", "gsslib", "application_name", "options"),
    }
)
"""Parameters that asyncpg, or the server, applies."""
SETTINGS: Final = frozenset(
    {
        *("search_path", "role", "timezone", "jit", "work_mem", "lock_timeout"),
        *("idle_in_transaction_session_timeout", "default_transaction_isolation"),
    }
)
"""Settings of the server that are not parameters of libpq. asyncpg sends them at login."""
APPLIED: Final = frozenset({"connect_timeout", "sslnegotiation"})
LEFT_OUT: Final = frozenset(
    {
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "fallback_application_name", "sslcompression", "sslsni"),
    }
)
"""Parameters without effect: d-back itself asks an idle connection if it is still there."""
WITHOUT_EFFECT: Final = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "load_balance_hosts": ("disable",),
    "sslcertmode": ("allow", "disable"),
    "client_encoding": ("utf8", "utf-8", "auto"),
    "requiressl": ("0",),
    "replication": ("false", "off", "no", "0"),
}
"""Parameters with the values that ask for nothing more than d-back does. Others are refused:
most of them ask for a protection, which must not be left out silently."""
REMEDIES: Final = {
    "channel_binding": "use sslmode=verify-full, which authenticates the server",
    "pgbouncer": "set transaction_pooler = true",
    "schema": "set schema",
    "currentSchema": "set schema",
    "connection_limit": "set pool_size",
    "max_connections": "set pool_size",
    "pool_size": "set pool_size",
    "statement_timeout": "set statement_timeout",
    "pool_timeout": "use connect_timeout",
    "socket_timeout": "set statement_timeout",
    "ssl": "use sslmode=require",
    "sslaccept": "use sslmode=require or sslmode=verify-full",
    "uselibpqcompat": "leave it out",
    "requiressl": "use sslmode=require",
    "hostaddr": "use host",
}
"""Parameters of other drivers and poolers, and what d-back has for them."""


class Address(Struct, frozen=True, kw_only=True):
    """An address that asyncpg understands, and what it cannot say."""

    url: str
    connect_timeout: float | None = None
    """Seconds that one attempt to connect may take; None: unlimited by the address."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of `asyncpg.connect`."""
    application_name: str | None = None


def address(dsn: str) -> Address:
    """Read a DSN; raises ``ValueError`` with what is wrong and never with the password."""
    scheme = next((each for each in SCHEMES if dsn.startswith(each)), None)
    if scheme is None:
        raise ValueError(EXPECTED)
    _check_authority(dsn.removeprefix(scheme))
    base, mark, query = dsn.partition("?")
    if not mark:
        return Address(url=dsn)
    try:
        parameters = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise ValueError("dsn: expected NAME=VALUE&NAME=VALUE after the '?'") from None
    return _applied(base, parameters)


def _check_authority(text: str) -> None:
    """Refuse a login or a port that would be read as something else.

    ``me:hun/ter2@host`` is a host ``me`` with the port ``hun`` for every parser of URLs. What the
    operator meant can only be guessed, so the error says how to write it.
    """
    end = min((place for each in "/?#" if (place := text.find(each)) >= 0), default=len(text))
    login, at, hosts = text[:end].rpartition("@")
    path = text[end:].partition("?")[0]
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    numeric = all(not port or (port.isascii() and port.isdigit()) for port in ports)
    if "@" in path or ("@" in text[end:] and not numeric):
        raise ValueError(_escape(text[end]))
    for each in "@[]":
        if at and each in login:
            raise ValueError(_escape(each))
    if "#" in text:
        raise ValueError("dsn: a '#' must be written as %23")
    if not numeric:
        raise ValueError("dsn: expected HOST:PORT, the port a number")


def _escape(character: str) -> str:
    written = quote(character, safe="")
    return f"dsn: '{character}' in the user or the password must be written as {written}"


def _applied(base: str, parameters: dict[str, str]) -> Address:
    passed_on = {}
    options: dict[str, Any] = {}
    connect_timeout = None
    for name, value in parameters.items():
        if name == "connect_timeout":
            connect_timeout = _seconds(value)
        elif name == "sslnegotiation":
            options |= _negotiation(value)
        elif name in PASSED_ON or name in SETTINGS or "." in name:
            passed_on[name] = value
        elif name not in LEFT_OUT:
            _check_without_effect(name, value)
    if passed_on.get("sslrootcert") == "system":
        del passed_on["sslrootcert"]
        _check_system(passed_on.pop("sslmode", "verify-full"))
        options["ssl"] = ssl.create_default_context()
    return Address(
        url=f"{base}?{urlencode(passed_on, quote_via=quote)}" if passed_on else base,
        connect_timeout=connect_timeout,
        options=options,
        application_name=passed_on.get("application_name"),
    )


def _seconds(value: str) -> float | None:
    if not (value.isascii() and value.removeprefix("-").isdigit()):
        raise ValueError("dsn: connect_timeout: expected a number of seconds")
    return float(value) if int(value) > 0 else None


def _negotiation(value: str) -> dict[str, Any]:
    if value not in {"postgres", "direct"}:
        raise ValueError("dsn: sslnegotiation: unknown value (postgres, direct)")
    return {"direct_tls": True} if value == "direct" else {}


def _check_system(sslmode: str) -> None:
    # libpq refuses weaker modes, too: a public authority vouches for names only.
    if sslmode != "verify-full":
        raise ValueError("dsn: sslrootcert=system needs sslmode=verify-full")


def _check_without_effect(name: str, value: str) -> None:
    """Refuse a parameter, unless its value asks for nothing that d-back does not do."""
    values = WITHOUT_EFFECT.get(name)
    if values is not None and value.lower() in values:
        return
    remedy = REMEDIES.get(name)
    if values is not None:
        hint = f"{remedy}, or one of: {', '.join(values)}" if remedy else ", ".join(values)
        raise ValueError(f"dsn: this value of {name} is not supported ({hint})")
    if remedy is None:
        known = sorted(PASSED_ON | SETTINGS | APPLIED | LEFT_OUT | WITHOUT_EFFECT.keys())
        close = get_close_matches(name, known, n=1, cutoff=0.6)
        remedy = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
    # Part of a password with a "?" could stand here; only what looks like a name is shown.
    shown = f"'{name}'" if name.isidentifier() else "a parameter"
    raise ValueError(f"dsn: {shown} is not supported ({remedy})")
