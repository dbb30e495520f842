"""The health of the provider: reported when a problem begins, and when all are over."""

from d_back_core import Context


class Health:
    """Gathers the problems of the connection, the edge and the origin."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._troubles: dict[str, str] = {}

    def lost(self, reason: str) -> None:
        """There is no connection."""
        self._turn("connection", reason)

    def found(self) -> None:
        """There is one again; its users report when they are current."""
        self._turn("connection", None)

    def edge(self, reason: str | None) -> None:
        """The reason why the edge may be out of date; None: it is current."""
        self._turn("edge", reason)

    def origin(self, reason: str | None) -> None:
        """The reason why the origin does not write; None: it writes, or stands by."""
        self._turn("origin", reason)

    def _turn(self, whose: str, reason: str | None) -> None:
        if reason is not None:
            self._troubles[whose] = reason
            self._context.degraded(reason)
        elif self._troubles.pop(whose, None) is not None and not self._troubles:
            self._context.recovered()
