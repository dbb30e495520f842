"""The rules that the checks quote, and where each one is written.

A test compares every quotation with `d_back_core.hookspecs`.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """A quotation from the contract."""

    hook: str
    """The hook whose docstring has the text; "": the docstring of `d_back_core.hookspecs`."""
    text: str

    def __str__(self) -> str:
        place = f"ProviderSpec.{self.hook}" if self.hook else "at the top"
        page = f"{self.hook}" if self.hook else "the hooks"
        return f'"{self.text}"\n(d_back_core.hookspecs, {place}; docs/en/hooks.md, {page})'


HOOKS = Rule("", "An implementation declares those of a hook's arguments that it needs.")
CONFIG = Rule("", "decoded into the class attribute ``Config``")
REFUSING = Rule("", "``Config.__post_init__`` may reject by raising ``ValueError``")
CONSTRUCTOR = Rule("", "the constructor by raising `ConfigError`")
SECRETS = Rule("", "no log, error or repr may show it")
CALLS = Rule("", "Each call has the provider's ``timeout``.")
CANCELLED = Rule("", "``CancelledError`` must pass")
CONCURRENT = Rule("", "Calls for different servers may run at the same time")
BLOCKING = Rule("", "Nothing may block the event loop.")
STILL = Rule("users", "Return all users of that server, by uid.")
RECORDS = Rule("", "an invalid field counts as not supplied")
START = Rule("start", "Raising means: not available now")
NEVER = Rule("start", "Raising `ConfigError` means: not before the configuration changes.")
SUBSCRIBE = Rule("start", "what happens after ``start`` must reach ``events``")
PROBE = Rule("start", "With ``context.probe``, log in but subscribe to nothing.")
STOP = Rule("stop", "Release everything, and end the iterator that ``events`` returned.")
PAIRS = Rule("stop", "Called once for each ``start``, also after one that failed.")
SERVERS = Rule("servers", "Return all servers of this provider, by server_id.")
CANNOT_SAY = Rule("servers", "``None``: cannot say now (not complete yet).")
USERS = Rule("users", "Return all users of that server, by uid.")
NOT_MINE = Rule("users", "``None``: not my server, or cannot say")
EVENTS = Rule("events", "Yield changes of this provider's own servers and users, and chat")
FAILED = Rule("events", "Raise when the source is lost: the run ends")
WAITING = Rule("events", "a stream that only waits looks healthy")
AGAIN = Rule("events", "then ``start`` again after a growing wait")
REFETCHED = Rule("events", "everything is fetched again")
AUTHORIZE = Rule("authorize", "Return True if these credentials may join that protected server.")
UNLOGGED = Rule("authorize", "Never log the credentials.")
RECORD = Rule("record", "storing it twice must do no harm")
ROUTES = Rule("routes", "An exception is a failure: the answer is 500.")
COMMANDS = Rule("commands", "called without an instance")
