"""What the tests of the chain share: the scene of `d_back_testing`, and who is in it."""

from collections.abc import Mapping

from d_back_core.models import Server, User
from d_back_testing import Guest, Scene, Script, configured, open_sockets, prepared, served
from d_back_testing.guest import PATIENCE
from d_back_testing.scene import Table
from d_back_testing.script import DOWN

__all__ = [
    "ADA",
    "BOB",
    "CID",
    "DOWN",
    "ONE",
    "PATIENCE",
    "Gated",
    "Guest",
    "Scene",
    "Table",
    "configured",
    "open_sockets",
    "prepared",
    "served",
]

ONE: Mapping[str, Server] = {"1": Server(name="One")}
ADA = User(username="Ada", status="online", role_color="#aaaaaa")
BOB = User(username="Bob", status="idle", role_color="#bbbbbb")
CID = User(username="Cid", status="dnd", role_color="#cccccc")

Gated = Script
