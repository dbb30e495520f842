"""Scale-out for d-back on NATS JetStream: an origin writes what clients may see, any number of
edges serve it.

Both: `config` (the operator's table), `connection`, `watch` (reads keys in order), `keys`,
`records` and `bucket` (the format in NATS), `sealing` (encrypts what clients offer).
Origin: `origin`, `ownership` (which origin may write), `contents` (what is wanted and stored),
`writer`, `joins`. Edge: `edge`, `mirrors` (what it has read), `pending`.
"""

from d_back_nats.config import NatsConfig, NatsTls
from d_back_nats.provider import NatsProvider

__all__ = ["NatsConfig", "NatsProvider", "NatsTls"]
