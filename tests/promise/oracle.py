"""What is right once everything has settled, by the rules alone (R1 to R13, R22, R25).

It is given what each provider said last and whether it answers, in the order of the chain, and
says which servers there are and who is in them. What the rules leave open is None; then clients
have to agree with each other only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from d_back_core import Server, User

DEFAULTS = {"status": "offline", "roleColor": "#ffffff"}
WIRE = {"username": "username", "status": "status", "roleColor": "role_color"}

World = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Layer:
    """A provider as it is now. `listed` and `people` are the truth if it answers, else what it
    said last.
    """

    name: str
    mode: str
    answers: bool
    listed: Mapping[str, Server]
    people: Mapping[str, Mapping[str, User]]

    def lists(self, server_id: str) -> bool:
        return self.mode != "enrich" and server_id in self.listed

    def answers_for(self, server_id: str) -> bool:
        return self.answers and server_id in self.people


@dataclass(frozen=True)
class Policy:
    enabled: bool = True
    hide_offline: bool = False
    ignore_users: tuple[str, ...] = ()
    password: str | None = None


@dataclass(frozen=True)
class Disorder:
    """What happened since it was settled last, as far as it can make the outcome open."""

    health: int = 0
    """How often a provider changed its health."""
    reloads: int = 0
    listings: frozenset[str] = frozenset()
    """Servers that a provider has listed or taken back."""
    protections: frozenset[str] = frozenset()
    """Servers that a provider has protected, or opened again."""

    def concerns(self, server_id: str) -> bool:
        return self.reloads > 0 or server_id in self.listings


@dataclass(frozen=True)
class State:
    """A settled state, which is also the last state where no provider answers afterwards."""

    exists: Mapping[str, bool | None] = field(default_factory=dict)
    """By server; None: it is open."""
    in_use: Mapping[str, str | None] = field(default_factory=dict)
    """The fallback provider that each server's users come from; None: it is open which."""
    worlds: Mapping[str, World | None] = field(default_factory=dict)
    """Its users, for each server that clients see; None: that is open."""
    merged: Mapping[str, World | None] = field(default_factory=dict)
    """The same before the operator's policy: what is recorded."""
    protectors: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By server, the providers that protect it."""
    unclear: frozenset[str] = frozenset()
    """Servers that a provider may have protected without another sign of it."""
    protected: Mapping[str, bool | None] = field(default_factory=dict)
    """None: it is open whether a server is protected."""
    default: str | None = None
    """The server that is the default; None: it is open which, or there is none. Then it is what
    clients were shown.
    """

    def there(self, server_id: str) -> bool | None:
        """Whether clients see the server; None: that is open."""
        if self.exists.get(server_id) is None:
            return None
        return server_id in self.worlds

    def admits(self, server_id: str, password: str | None, policy: Policy) -> bool | None:
        """Whether a client with this password may join; None: that is open."""
        protected = self.protected[server_id]
        if password is not None and password == policy.password:
            return True
        return None if protected is None else not protected


def settled(
    before: State,
    layers: Sequence[Layer],
    policies: Mapping[str, Policy],
    disorder: Disorder,
) -> State:
    """The state that follows, once nothing is pending."""
    exists = {key: _exists(key, before, layers, disorder) for key in policies}
    in_use = {key: _in_use(key, before, layers, disorder) for key in policies}
    worlds: dict[str, World | None] = {}
    merged_worlds: dict[str, World | None] = {}
    for key, policy in policies.items():
        if exists[key] is not False and policy.enabled:
            world = merged_worlds[key] = _world(key, in_use[key], layers)
            hidden = policy.ignore_users
            worlds[key] = world and {uid: u for uid, u in world.items() if uid not in hidden}
        elif not policy.enabled:
            exists[key] = bool(exists[key])  # no client sees the difference
    protectors = {key: _protectors(key, before, layers) for key in policies}
    unclear = before.unclear
    if disorder.health or disorder.reloads:
        # A provider may have failed, or left the chain, right after it had protected the server.
        unclear |= disorder.protections
    protected = {
        key: True if policy.password is not None or protectors[key] else None
        for key, policy in policies.items()
    }
    protected |= {key: False for key, each in protected.items() if not each and key not in unclear}
    default = _default(before, exists, worlds, protected, disorder)
    return State(exists, in_use, worlds, merged_worlds, protectors, unclear, protected, default)


def _protectors(server_id: str, before: State, layers: Sequence[Layer]) -> frozenset[str]:
    """R6: who has protected a server protects it until it says otherwise while it answers."""
    found = set(before.protectors.get(server_id, ()))
    for layer in layers:
        server = layer.listed.get(server_id) if layer.answers else None
        if server is not None and server.passworded is not UNSET:
            found.discard(layer.name)
            found |= {layer.name} if server.passworded else set()
    return frozenset(found)


def _exists(
    server_id: str, before: State, layers: Sequence[Layer], disorder: Disorder
) -> bool | None:
    """R3: a server exists if a provider lists it. A provider that has failed takes nothing back,
    so a server that only it listed stays.
    """
    listing = [layer for layer in layers if layer.lists(server_id)]
    if any(layer.answers for layer in listing):
        return True
    if not listing:
        # A provider that a reload has removed takes its part back only if another one answers.
        left = disorder.reloads > 0 or before.exists.get(server_id) is None
        answered = any(layer.answers and layer.mode != "enrich" for layer in layers)
        return None if left and not answered else False
    return None if disorder.concerns(server_id) else before.exists.get(server_id)


def _in_use(
    server_id: str, before: State, layers: Sequence[Layer], disorder: Disorder
) -> str | None:
    """R2, R7: the first fallback provider that answers; without one, the last that did."""
    fallbacks = [layer for layer in layers if layer.mode == "fallback"]
    for layer in fallbacks:
        if layer.answers_for(server_id):
            return layer.name
    last = before.in_use.get(server_id)
    if disorder.health > 1 or disorder.concerns(server_id):
        return None  # another one may have been in use for a moment
    return last


def _world(server_id: str, in_use: str | None, layers: Sequence[Layer]) -> World | None:
    used = [
        layer
        for layer in layers
        if layer.name == in_use or (layer.mode != "fallback" and layer.answers_for(server_id))
    ]
    # One that does not answer may have the layer of an instance before a reload (R17).
    lost = in_use is None and any(
        layer.mode == "fallback" and (server_id in layer.people or not layer.answers)
        for layer in layers
    )
    if lost or not any(layer.mode != "enrich" for layer in used):
        return None
    return merged(server_id, used)


def _default(
    before: State,
    exists: Mapping[str, bool | None],
    worlds: Mapping[str, World | None],
    protected: Mapping[str, bool | None],
    disorder: Disorder,
) -> str | None:
    """R3: it stays as long as its server is open; else the smallest server_id."""
    last = before.default
    opened = [key for key in worlds if protected[key] is False]
    quiet = not disorder.protections and not (last and disorder.concerns(last))
    if quiet and last and last in opened and exists[last]:
        return last
    unclear = None in exists.values() or None in protected.values()
    if disorder.health or disorder.listings or disorder.protections or unclear or not opened:
        return None  # it may have moved more than once
    if disorder.reloads > (last is not None):  # it may have been closed in between
        return None
    return last if last in opened else min(opened)


def merged(server_id: str, layers: Sequence[Layer]) -> World:
    """The layers merged field by field: the higher one wins, and `enrich` adds no users."""
    adding = [layer for layer in layers if layer.mode != "enrich"]
    world: World = {}
    for uid in {uid: None for layer in adding for uid in layer.people[server_id]}:
        world[uid] = {"uid": uid, "username": uid, **DEFAULTS}
        for layer in reversed(layers):
            user = layer.people[server_id].get(uid, User())
            values = {key: getattr(user, name) for key, name in WIRE.items()}
            given = {k: v for k, v in values.items() if v is not UNSET and v is not None}
            world[uid].update(given)
    return world


def is_recorded(
    uid: str, server_id: str, stored: World, right: World, layers: Sequence[Layer]
) -> bool:
    """R22: what is stored of a user is what is there, or what a source said that is lost now."""
    lost = [layer for layer in layers if not layer.answers]
    have, want = stored.get(uid), right.get(uid)
    if have is None or want is None:
        return have is want or (want is None and bool(lost))
    said = [layer.people.get(server_id, {}).get(uid, User()) for layer in lost]
    return all(
        have[key] == want[key] or any(have[key] == getattr(user, name) for user in said)
        for key, name in WIRE.items()
    )


def shown(world: World, policy: Policy) -> World:
    """What is compared: with `hide_offline` a client may know who is offline, and need not."""
    hide = policy.hide_offline
    return {uid: u for uid, u in world.items() if not (hide and u["status"] == "offline")}
