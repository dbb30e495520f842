"""Synthetic servers for load, of any number and size; nothing of a server is made before it is
looked at."""

from random import Random

from d_back_core import Server, Status
from d_back_mock.community import Community, Member

FIRST_SERVER_ID = 100_000_000_000_000_000
FIRST_UID = 500_000_000_000_000_000
MAX_USERS = 100_000
"""Of one server; that many uids are set aside for each, so that no two servers share one."""

_STATUSES: tuple[Status, ...] = (
    *("online",) * 7,
    *("idle",) * 4,
    *("dnd",) * 2,
    *("offline",) * 3,
)
_ADJECTIVES = (
    *("Amber", "Brave", "Calm", "Clever", "Cosy", "Curious", "Dapper", "Eager"),
    *("Fuzzy", "Gentle", "Happy", "Humble", "Jolly", "Keen", "Lucky", "Mellow"),
    *("Nimble", "Noble", "Patient", "Plucky", "Proud", "Quiet", "Rusty", "Sleepy"),
    *("Snug", "Spry", "Sunny", "Swift", "Tidy", "Velvet", "Witty", "Zesty"),
)
_ANIMALS = (
    *("Badger", "Beetle", "Bison", "Crane", "Dingo", "Dormouse", "Egret", "Falcon"),
    *("Ferret", "Finch", "Gecko", "Heron", "Ibex", "Jackdaw", "Koala", "Lemur"),
    *("Lynx", "Magpie", "Marmot", "Newt", "Ocelot", "Otter", "Owl", "Panda"),
    *("Pika", "Puffin", "Quail", "Raven", "Seal", "Tapir", "Toad", "Wombat"),
)
_ROLE_COLORS = (
    *("#ffffff", "#99aab5", "#1abc9c", "#2ecc71", "#3498db", "#9b59b6"),
    *("#e91e63", "#f1c40f", "#e67e22", "#e74c3c", "#54a0ff", "#00d2d3"),
)


def communities(count: int, size: int, random: Random) -> list[Community]:
    """``count`` servers of ``size`` users each; the first is the default server."""
    return [_community(number, size, random.getrandbits(32)) for number in range(count)]


def _community(number: int, size: int, salt: int) -> Community:
    server = Server(
        name=f"Crowd {number + 1}",
        id=f"crowd-{number + 1}",
        default=number == 0,
        passworded=False,
    )
    crowd = Crowd(FIRST_UID + number * MAX_USERS, size, salt)
    return Community(str(FIRST_SERVER_ID + number), server, crowd)


class Crowd:
    """Invented members: each follows from its index and the salt alone, so none is stored."""

    def __init__(self, first_uid: int, size: int, salt: int) -> None:
        self._first_uid = first_uid
        self._size = size
        self._salt = salt

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Member:
        rest, status = divmod(_mixed(self._salt + index), len(_STATUSES))
        rest, adjective = divmod(rest, len(_ADJECTIVES))
        rest, animal = divmod(rest, len(_ANIMALS))
        return Member(
            uid=str(self._first_uid + index),
            username=f"{_ADJECTIVES[adjective]}{_ANIMALS[animal]}{index + 1}",
            status=_STATUSES[status] if index else "online",
            role_color=_ROLE_COLORS[rest % len(_ROLE_COLORS)],
        )


def _mixed(number: int) -> int:
    """32 bits in which neighbouring numbers look unrelated: the rounds of Chris Wellons'
    ``lowbias32`` (https://nullprogram.com/blog/2018/07/31/)."""
    number &= 0xFFFFFFFF
    number = (number ^ number >> 16) * 0x7FEB352D & 0xFFFFFFFF
    number = (number ^ number >> 15) * 0x846CA68B & 0xFFFFFFFF
    return number ^ number >> 16
