"""The chain: layers in priority order, and the rules by which they merge. Pure; no I/O.

The same rules hold for the list of servers (its layers map server_id → `Server`) and for the
users of one server (uid → `User`); each of these is one *subject* with its `Layers`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Struct

from d_back_core.models import Server, User

Mode: TypeAlias = Literal["fallback", "merge", "enrich"]

FIELDS: dict[type, tuple[str, ...]] = {
    User: ("username", "status", "role_color"),
    Server: ("name", "id", "default", "passworded", "enabled", "client_id"),
}
UNFILTERED = frozenset({"passworded", "enabled"})
"""Fields that a ``fields`` filter never takes away: it must not open a server."""

R = TypeVar("R", bound=User | Server)


class Link(Struct, frozen=True, kw_only=True):
    """A provider's place in the chain: its position is that in the sequence of links."""

    name: str
    mode: Mode = "fallback"
    servers: frozenset[str] | None = None
    fields: frozenset[str] | None = None

    def admits(self, server_id: str) -> bool:
        """Whether this provider is asked for that server at all."""
        return self.servers is None or server_id in self.servers

    def supplies(self, field: str) -> bool:
        return self.fields is None or field in self.fields or field in UNFILTERED


class Layers(Generic[R]):
    """The layers of one subject that are in use; ``links`` is their order, highest first.

    A layer that is not in the mapping is not in use. The inner mappings are shared with their
    owner, who may change them; ask again with `merge` afterwards.
    """

    def __init__(
        self,
        kind: type[R],
        links: tuple[Link, ...],
        layers: Mapping[str, Mapping[str, R]],
        *,
        stale: frozenset[str] = frozenset(),
    ) -> None:
        self.kind = kind
        self.links = links
        self.in_use = {link.name: layers[link.name] for link in links if link.name in layers}
        self.stale = stale
        """Of these providers only the records that no other provider has count (R3, R7)."""
        self._links = [link for link in links if link.name in layers]
        self._positions = {link.name: position for position, link in enumerate(links)}

    def same_as(self, other: "Layers[R]") -> bool:
        """Return True if the same layers are in use, in the same order or another one."""
        return (
            self.in_use.keys() == other.in_use.keys()
            and self.stale == other.stale
            and all(other.in_use[name] is records for name, records in self.in_use.items())
        )

    def record(self, name: str, key: str) -> R | None:
        """Return that provider's record of that key, if its layer is in use and admits the key."""
        link = next((link for link in self._links if link.name == name), None)
        if link is None or (self.kind is Server and not link.admits(key)):
            return None
        return self.in_use[name].get(key)

    def contributors(self, key: str, above: str | None = None) -> Iterator[tuple[Link, R]]:
        """Yield the records of that key which count, highest priority first.

        Of the fallbacks only one counts: for users the highest in use, even if it does not have
        the key; for servers the highest that has it. ``above``: only providers above that one.
        """
        if not self.stale:
            yield from self._contributors(key, above, self._links)
            return
        fresh = [link for link in self._links if link.name not in self.stale]
        found = list(self._contributors(key, above, fresh))
        if not any(link.mode != "enrich" for link, _ in found):
            found = list(self._contributors(key, above, self._links))
        yield from found

    def _contributors(
        self, key: str, above: str | None, links: Iterable[Link]
    ) -> Iterator[tuple[Link, R]]:
        answered = False
        for link in links:
            if not self.is_above(link.name, above):
                return
            if self.kind is Server and not link.admits(key):
                continue
            if link.mode == "fallback" and answered:
                continue
            record = self.in_use[link.name].get(key)
            if link.mode == "fallback":
                answered = self.kind is not Server or record is not None
            if record is not None:
                yield link, record

    def merge(self, key: str, above: str | None = None) -> R | None:
        """The record of that key, field by field; None where no provider that adds keys has it.
        Fields that nobody supplies stay ``UNSET``."""
        present = False
        fields: dict[str, Any] = {}
        for link, record in self.contributors(key, above):
            present = present or link.mode != "enrich"
            for field, value in _supplied(link, record, self.kind):
                fields.setdefault(field, value)
        return self.kind(**fields) if present else None

    def explain(self, key: str) -> dict[str, list[tuple[str, object]]]:
        """Per field the providers that supply it and their values; the first one wins."""
        found: dict[str, list[tuple[str, object]]] = {field: [] for field in FIELDS[self.kind]}
        for link, record in self.contributors(key):
            for field, value in _supplied(link, record, self.kind):
                found[field].append((link.name, value))
        return found

    def rank(self, key: str, field: str) -> int:
        """The place in the order of the provider that supplies the field."""
        names = list(self.in_use)
        return next((names.index(name) for name, _ in self.explain(key)[field]), len(names))

    def keys(self, above: str | None = None) -> list[str]:
        """Every key that some provider adds, in the order of the chain. ``above``: only of the
        providers above that one."""
        adding = [
            link
            for link in self._links
            if link.mode != "enrich" and self.is_above(link.name, above)
        ]
        keys = (
            key
            for link in adding
            for key in self.in_use[link.name]
            if self.kind is not Server or link.admits(key)
        )
        return list(dict.fromkeys(keys))

    def is_above(self, name: str, other: str | None) -> bool:
        """Whether that provider has a higher priority than the other (None: than nobody's)."""
        limit = self._positions.get(other) if other is not None else None
        return limit is None or self._positions.get(name, limit) < limit


def _supplied(link: Link, record: R, kind: type[R]) -> Iterator[tuple[str, object]]:
    for field in FIELDS[kind]:
        value = getattr(record, field)
        if value is not UNSET and value is not None and link.supplies(field):
            yield field, value


def rebased(base: Mapping[str, R], held: Mapping[str, R], answer: Mapping[str, R]) -> dict[str, R]:
    """A newer answer, with the changes that were made of an older one (``base``) until now
    (``held``): they stay where the newer one only repeats what the older one said."""
    records = dict(answer)
    for key in {**base, **held}:
        old, now, new = base.get(key), held.get(key), answer.get(key)
        if now is old or now == old:
            continue
        if old is not None and now is not None and new is not None:
            records[key] = _rebased(old, now, new)
        elif new != old:
            continue
        elif now is None:
            records.pop(key, None)
        else:
            records[key] = now
    return records


def _rebased(old: R, now: R, new: R) -> R:
    kind = type(new)
    fields = {}
    for field in FIELDS[kind]:
        said = getattr(new, field)
        fields[field] = getattr(now, field) if said == getattr(old, field) else said
    return kind(**fields)


def patched(record: R, event: Struct) -> R:
    """The record with what the event says; the event's ``UNSET`` fields are unchanged."""
    kind = type(record)
    fields = {field: getattr(record, field) for field in FIELDS[kind]}
    for field in fields:
        value = getattr(event, field)
        if value is not UNSET:
            fields[field] = value
    return kind(**fields)
