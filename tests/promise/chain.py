"""The providers of a program, and the configuration that the gateway is given for them."""

from collections.abc import Sequence

from d_back_core import Clock, Server, User
from d_back_core.config import Config, parse
from promise.oracle import Layer, Policy
from promise.program import NAMES, SERVERS, Reload, Setup, Source
from promise.providers import Polled, Recorder, Streaming

LIMITS = {
    "messages_per_second": 10_000.0,
    "message_burst": 10_000,
    "chat_per_minute": 1e6,
    "chat_burst": 100_000,
    "write_buffer": 4096,
    "slow_client_timeout": 60,
    "failed_joins": 1_000_000,
}
GRACE, FAILBACK = 2, 1
"""Short, so that one phase sees an outage to its end."""
IDLE = 1_000_000
"""Long: without clients, the last state of a failed provider would be forgotten."""


class Chain:
    def __init__(self, setup: Setup, clock: Clock) -> None:
        named = dict(zip(NAMES, setup.sources, strict=False))
        self.providers = {name: _provider(name, each, clock) for name, each in named.items()}
        self.recorder = Recorder() if setup.records else None
        self.policies = {key: Policy() for key in SERVERS}
        self._eager = setup.eager
        self._order = list(named)
        self._modes = {name: each.mode for name, each in named.items()}

    def reload(self, act: Reload) -> None:
        names = [NAMES[number] for number in act.order]
        order = [name for name in names if name in self.providers] or [NAMES[0]]
        for name in set(self._order) - set(order):
            self.providers[name].dismiss()
        self._order = order
        self._modes = dict(zip(NAMES, act.modes, strict=True))
        self.policies = dict(zip(SERVERS, act.policies, strict=True))

    def config(self) -> Config:
        providers = {name: {"mode": self._modes[name], "grace": GRACE} for name in self._order}
        servers = {
            key: {
                "eager": self._eager,
                "enabled": policy.enabled,
                "hide_offline": policy.hide_offline,
                "ignore_users": list(policy.ignore_users),
                **({} if policy.password is None else {"password": policy.password}),
            }
            for key, policy in self.policies.items()
        }
        return parse(
            {
                "gateway": {"history": 200},
                "limits": LIMITS,
                "chain": {
                    "order": self._order,
                    "recorders": ["recorder"] if self.recorder else [],
                    "failback_after": FAILBACK,
                    "idle": IDLE,
                },
                "providers": providers,
                "servers": servers,
            }
        )

    def plugins(self) -> dict[str, object]:
        """What the gateway is given."""
        recorders = {} if self.recorder is None else {"recorder": self.recorder}
        return {**self.providers, **recorders}

    def layers(self) -> list[Layer]:
        """What the oracle is given: the providers as they are now, the highest first."""
        return [_layer(name, self._modes[name], self.providers[name]) for name in self._order]


def newcomer(name: str, server_id: str, uids: Sequence[str]) -> tuple[Server, dict[str, User]]:
    """A server as this provider knows it, and its users."""
    people = {uid: User(username=f"{name}{uid}", status="online") for uid in uids}
    return Server(name=f"Server {server_id}", id=public_id(name, server_id)), people


def public_id(name: str, server_id: str) -> str:
    return f"{name}-{server_id}"


def _provider(name: str, source: Source, clock: Clock) -> Polled:
    uids = [str(number) for number in range(source.first, source.last + 1)]
    known = {key: newcomer(name, key, uids) for key in source.servers}
    provider = (Streaming if source.streams else Polled)(
        clock,
        {key: server for key, (server, _) in known.items()},
        {key: people for key, (_, people) in known.items()},
    )
    provider.state, provider.login = source.state, source.login
    provider.in_slices = source.in_slices
    return provider


def _layer(name: str, mode: str, provider: Polled) -> Layer:
    if provider.answers:
        return Layer(name, mode, answers=True, listed=provider.listed, people=provider.people)
    said, said_list = provider.said, provider.said_list
    return Layer(name, mode, answers=False, listed=said_list, people=said)
