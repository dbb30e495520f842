"""Scale-out for d-back on NATS JetStream: an origin writes what clients may see, any number of
edges serve it.

`config` is what the operator says; `connection` holds the line, `watch` reads keys in order and
`chain` writes them so that nobody else can in between; `contents` is what the bucket is to hold
and `origin` keeps it so; `mirrors` are what an `edge` has read; `sealing` keeps what clients offer
between the two; `keys`, `records` and `bucket` say what it all looks like in NATS.
"""

from d_back_nats.config import NatsConfig, NatsTls
from d_back_nats.provider import NatsProvider

__all__ = ["NatsConfig", "NatsProvider", "NatsTls"]
