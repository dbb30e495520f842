"""The error that a failed check raises."""

import traceback

from d_back_testing.contract.rules import Rule


class ContractError(AssertionError):
    """The provider violates a rule of the contract; names what it did, and quotes the rule."""

    def __init__(self, violation: str, rule: Rule) -> None:
        super().__init__(f"{violation}\n\nThe contract says: {rule}")

    def report(self) -> str:
        """Return the whole message, with the traceback of what the provider raised."""
        cause = self.__cause__
        if cause is None:
            return str(self)
        trace = "".join(traceback.format_exception(cause, limit=-6))
        return f"{self}\n\nThe provider raised:\n{trace}"
