"""Layers in priority order, and the rules by which they merge. Pure; no I/O.

The same rules merge the list of servers (layers that map server_id → `Server`) and the users of
one server (uid → `User`): one `Layers` for the list, and one per server.

A record counts for a key if
- its provider is a ``merge`` or ``enrich``, or
- its provider is a ``fallback``, and the highest one: of the users, the highest in use, even if it
  does not know the key, because a lower fallback never fills the gaps of a higher one; of the
  servers, the highest that lists the key, because each server is decided on its own.

A *stale* layer, of a provider that has failed past its grace, counts only for a key that no other
layer adds (R3, R7).

Records that count merge field by field: the highest priority that supplies a field wins. The texts
of ``extra`` merge in the same way, each for itself. A key
exists if a record of a ``fallback`` or ``merge`` provider counts for it; ``enrich`` adds no keys.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from msgspec import UNSET, Struct, UnsetType, structs

from d_back_core.models import Server, User

Mode: TypeAlias = Literal["fallback", "merge", "enrich"]

FIELDS: dict[type, tuple[str, ...]] = {
    User: ("username", "status", "role_color", "extra"),
    Server: ("name", "id", "default", "passworded", "enabled", "client_id"),
}
UNFILTERED = frozenset({"passworded", "enabled"})
"""Fields that pass every ``fields`` filter: a filter must not open a protected server."""

R = TypeVar("R", bound=User | Server)


class Link(Struct, frozen=True, kw_only=True):
    """A provider in the chain, with its mode and filters. The order of the links is the
    priority, highest first."""

    name: str
    mode: Mode = "fallback"
    servers: frozenset[str] | None = None
    fields: frozenset[str] | None = None

    def admits(self, server_id: str) -> bool:
        """True if the ``servers`` filter lets this provider answer for the server."""
        return self.servers is None or server_id in self.servers

    def supplies(self, field: str) -> bool:
        return self.fields is None or field in self.fields or field in UNFILTERED


class Layers(Generic[R]):
    """The layers in use for one list of servers, or for the users of one server.

    ``links`` are all providers, highest priority first; a provider without an entry in
    ``layers`` is not in use. The inner mappings are not copied: after their owner changes one,
    `merge` returns the new state.
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
        """Providers whose records count only for keys that no other layer adds."""
        self._links = [link for link in links if link.name in layers]
        self._only = self._only_layer()
        self._positions = {link.name: position for position, link in enumerate(links)}

    def same_as(self, other: "Layers[R]") -> bool:
        """Return True if the same layers are in use, in the same order or another one."""
        return (
            self.in_use.keys() == other.in_use.keys()
            and self.stale == other.stale
            and all(other.in_use[name] is records for name, records in self.in_use.items())
        )

    def _only_layer(self) -> Mapping[str, R] | None:
        """Return the records that are their own merge, since no other layer is in use."""
        if len(self._links) != 1 or self.kind is Server:
            return None
        link = self._links[0]
        return self.in_use[link.name] if link.mode != "enrich" and link.fields is None else None

    def record(self, name: str, key: str) -> R | None:
        """Return the provider's record; None if it has none, is not in use, or is filtered."""
        link = next((link for link in self._links if link.name == name), None)
        if link is None or (self.kind is Server and not link.admits(key)):
            return None
        return self.in_use[name].get(key)

    def holders(self, key: str) -> frozenset[str]:
        """Return the providers whose layers in use have that key, whether it counts or not."""
        return frozenset(name for name, records in self.in_use.items() if key in records)

    def contributors(self, key: str, above: str | None = None) -> Iterator[tuple[Link, R]]:
        """Yield the records that count for the key, highest priority first.

        ``above`` limits them to the providers above that one.
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
        """Return the merged record, or None if no provider that adds keys has the key.

        Fields that no provider supplies are ``UNSET``. ``above`` is as in `contributors`.
        """
        if self._only is not None and above is None:
            record = self._only.get(key)
            if record is None or None not in structs.astuple(record):
                return record
        present = False
        fields: dict[str, Any] = {}
        for link, record in self.contributors(key, above):
            present = present or link.mode != "enrich"
            for field in FIELDS[self.kind]:  # not by `_supplied`, which takes longer
                value = getattr(record, field)
                if value is UNSET or value is None or not link.supplies(field):
                    continue
                if field not in fields:
                    fields[field] = value
                elif field == "extra":
                    fields[field] = {**value, **fields[field]}
        return self.kind(**fields) if present else None

    def explain(self, key: str) -> dict[str, list[tuple[str, object]]]:
        """Return for each field the providers that supply it, and their values; the first wins.
        A text of ``extra`` is ``extra.KEY``."""
        fields = [field for field in FIELDS[self.kind] if field != "extra"]
        found: dict[str, list[tuple[str, object]]] = {field: [] for field in fields}
        for link, record in self.contributors(key):
            for field, value in _supplied(link, record, self.kind):
                if field != "extra":
                    found[field].append((link.name, value))
                    continue
                for text_key, text in value.items():
                    found.setdefault(f"extra.{text_key}", []).append((link.name, text))
        return found

    def rank(self, key: str, field: str) -> int:
        """Return the position of the layer that supplies the field (0 is the highest).

        If no layer supplies it, the number of layers in use.
        """
        names = list(self.in_use)
        return next((names.index(name) for name, _ in self.explain(key)[field]), len(names))

    def keys(self, above: str | None = None) -> list[str]:
        """Return every key that a provider adds, in chain order. ``above`` is as in
        `contributors`."""
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
        """True if the provider's priority is higher than the other's, or if ``other`` is None."""
        limit = self._positions.get(other) if other is not None else None
        return limit is None or self._positions.get(name, limit) < limit


def _supplied(link: Link, record: R, kind: type[R]) -> Iterator[tuple[str, Any]]:
    for field in FIELDS[kind]:
        value = getattr(record, field)
        if value is not UNSET and value is not None and link.supplies(field):
            yield field, value


def rebased(base: Mapping[str, R], held: Mapping[str, R], answer: Mapping[str, R]) -> dict[str, R]:
    """Return the new ``answer`` with the local changes kept that it does not know.

    ``base`` is the previous answer, ``held`` is the layer that events have made of it. A value of
    ``answer`` that equals ``base`` may be older than the events: ``held`` wins. A value that
    differs from ``base`` is newer: ``answer`` wins.
    """
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
    fields: dict[str, Any] = {}
    for field in FIELDS[kind]:
        former, latest = getattr(old, field), getattr(new, field)
        if field == "extra":
            fields[field] = _rebased_extra(former or {}, getattr(now, field) or {}, latest or {})
        else:
            fields[field] = getattr(now, field) if latest == former else latest
    return kind(**fields)


def _rebased_extra(
    old: Mapping[str, str], now: Mapping[str, str], new: Mapping[str, str]
) -> Mapping[str, str] | UnsetType:
    texts = {}
    for key in {**new, **now}:
        text = now.get(key) if new.get(key) == old.get(key) else new.get(key)
        if text is not None:
            texts[key] = text
    return texts or UNSET


def patched(record: R, event: Struct) -> R:
    """Return the record with the fields of the event; the event's ``UNSET`` fields stay."""
    kind = type(record)
    fields = {field: getattr(record, field) for field in FIELDS[kind]}
    for field in fields:
        value = getattr(event, field)
        if value is not UNSET:
            fields[field] = value
    return kind(**fields)
