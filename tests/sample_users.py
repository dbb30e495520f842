"""The server and the users that many tests share."""

from collections.abc import Mapping

from d_back_core import Server, User

ONE: Mapping[str, Server] = {"1": Server(name="One")}
ADA = User(username="Ada", status="online", role_color="#aaaaaa")
BOB = User(username="Bob", status="idle", role_color="#bbbbbb")
CID = User(username="Cid", status="dnd", role_color="#cccccc")
