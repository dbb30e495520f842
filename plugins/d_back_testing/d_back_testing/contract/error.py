"""How a broken promise is told."""

import traceback

from d_back_testing.contract.promises import Promise


class ContractError(AssertionError):
    """The provider does not keep the contract; says what it did, and what it had to do."""

    def __init__(self, happened: str, promise: Promise) -> None:
        super().__init__(f"{happened}\n\nThe contract says: {promise}")

    def told(self) -> str:
        """All of it, with the traceback of what the provider raised."""
        cause = self.__cause__
        if cause is None:
            return str(self)
        trace = "".join(traceback.format_exception(cause, limit=-6))
        return f"{self}\n\nWhat it raised:\n{trace}"
