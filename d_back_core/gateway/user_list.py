"""The HTTP answer with the users of a server: conditional, compressed, and cacheable.

The bytes are those of the cached snapshot. An answer costs the same for any number of users, apart
from sending it.
"""

from http import HTTPStatus

from d_back_core.wire.frames import Body

PUBLIC = "public, max-age=1"
"""A cache in front of the gateway then asks once per second, whatever the number of clients."""
PRIVATE = "no-store"


def user_list(
    body: Body, *, public: bool, if_none_match: str, accept_encoding: str
) -> tuple[HTTPStatus, dict[str, str], tuple[bytes, ...]]:
    """Return status, headers and body, in pieces, for these request headers ("" if absent).

    ``public``: every client may have the list, and so may a cache.
    """
    compressed = bool(body.gzip) and _accepts_gzip(accept_encoding)
    # A strong tag is one of these very bytes, so each encoding has its own (RFC 9110, 8.8.3).
    etag = f'{body.etag[:-1]}-gzip"' if compressed else body.etag
    headers = {
        "ETag": etag,
        "Cache-Control": PUBLIC if public else PRIVATE,
        "Vary": "Accept-Encoding",
    }
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    if known & {etag, "*"}:
        return HTTPStatus.NOT_MODIFIED, headers, ()
    if compressed:
        headers["Content-Encoding"] = "gzip"
    return HTTPStatus.OK, headers, body.gzip if compressed else body.plain


def _accepts_gzip(accept_encoding: str) -> bool:
    """Return True if a header ``Accept-Encoding`` names gzip, and not with the weight 0."""
    for each in accept_encoding.lower().replace(" ", "").split(","):
        coding, _, weight = each.partition(";q=")
        if coding == "gzip":
            return not weight or bool(weight.strip("0."))
    return False
