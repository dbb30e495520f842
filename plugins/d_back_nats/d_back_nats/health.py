"""What is wrong, of all that can be: told to the core when it begins, and when all is well."""

from d_back_core import Context


class Health:
    """Gathers what the connection, the edge and the origin say of themselves."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._troubles: dict[str, str] = {}

    def lost(self, reason: str) -> None:
        """There is no connection."""
        self._turn("connection", reason)

    def found(self) -> None:
        """There is one again; who uses it says so when it is current."""
        self._turn("connection", None)

    def edge(self, reason: str | None) -> None:
        """What keeps the edge from being current; None: nothing."""
        self._turn("edge", reason)

    def origin(self, reason: str | None) -> None:
        """What keeps the origin from writing; None: nothing, or that another one does."""
        self._turn("origin", reason)

    def _turn(self, whose: str, reason: str | None) -> None:
        if reason is not None:
            self._troubles[whose] = reason
            self._context.degraded(reason)
        elif self._troubles.pop(whose, None) is not None and not self._troubles:
            self._context.recovered()
