"""Short public ids: abbreviated from the guild's name, unique, and never changed again."""

import re
from collections.abc import Mapping
from unicodedata import normalize

MAX_WHOLE = 12
"""Up to so many characters the words of a name are joined; a longer name becomes its initials."""
MIN_INITIALS = 3


def abbreviated(name: str) -> str:
    """Return ``dworld`` for ``D-World``, ``tcdof`` for ``The Coding Den of Friends``, and "" if no
    character of the name is a letter or digit of ASCII."""
    words = re.findall(
        r"[a-z0-9]+", normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    )
    whole = "".join(words)
    initials = "".join(word[0] for word in words)[:MAX_WHOLE]
    if len(whole) <= MAX_WHOLE or len(initials) < MIN_INITIALS:
        return whole[:MAX_WHOLE]
    return initials


class PublicIds:
    """server_id → public id. A guild that leaves keeps its id for the day it comes back."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def assign(self, names: Mapping[str, str]) -> None:
        """Give those guilds (server_id → name) that have no id yet theirs: of two that want the
        same one, the older guild gets it, the other one digits of its snowflake behind it."""
        taken = set(self._ids.values())
        for server_id in sorted(names.keys() - self._ids.keys(), key=int):
            wanted = abbreviated(names[server_id]) or server_id
            choices = (wanted, f"{wanted}-{server_id[-4:]}", server_id)
            chosen = next(choice for choice in choices if choice not in taken)
            self._ids[server_id] = chosen
            taken.add(chosen)

    def __getitem__(self, server_id: str) -> str:
        return self._ids[server_id]
