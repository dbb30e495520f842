"""What went wrong with a source, in words that have neither a token nor a query."""

import asyncio
from urllib.parse import urlsplit

import aiohttp

from d_back_core import DBackError


class HttpError(DBackError):
    """A source cannot be reached, or returns something that cannot be used."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the source asks to wait."""


def shown(url: str) -> str:
    """Return the URL without login and query: both may be secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def described(error: BaseException) -> str:
    """Return what kept a request from being answered."""
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host's name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not valid ({error.certificate_error})"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    if isinstance(error, aiohttp.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer ends too early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "the connection failed"
