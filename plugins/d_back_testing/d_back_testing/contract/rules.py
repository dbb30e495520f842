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


HOOKS = Rule("", "An implementation declares of a hook's arguments those that it needs.")
CONFIG = Rule("", "decoded into the class attribute ``Config``")
REFUSING = Rule("", "``Config.__post_init__`` may refuse by raising ``ValueError``")
CONSTRUCTOR = Rule("", "the constructor by raising `ConfigError`")
SECRETS = Rule("", "no log, error or repr may show it")
CALLS = Rule("", "Each call runs under the provider's ``timeout``")
CANCELLED = Rule("", "``CancelledError`` always passes")
CONCURRENT = Rule("", "Calls for different servers may run at the same time")
BLOCKING = Rule("", "Nothing may block the event loop.")
STILL = Rule("", "What is answered changes with the source only")
RECORDS = Rule("", "a field that is not valid counts as not supplied")
START = Rule("start", "Raising means: not available now")
NEVER = Rule("start", "Raising `ConfigError` means: never, until the configuration changes.")
SUBSCRIBE = Rule("start", "what happens after ``start`` must reach ``events``")
PROBE = Rule("start", "With ``context.probe``, log in and subscribe to nothing.")
STOP = Rule("stop", "Give everything back, and end what ``events`` returned.")
PAIRS = Rule("stop", "Called once for each ``start``, also after a failed one.")
SERVERS = Rule("servers", "All servers of this provider, by server_id.")
CANNOT_SAY = Rule("servers", "``None``: cannot say now; the next provider is asked.")
USERS = Rule("users", "All users of that server, by uid.")
NOT_MINE = Rule("users", "``None``: not mine, or cannot say")
EVENTS = Rule("events", "Changes of this provider's own servers and users, and chat")
FAILED = Rule("events", "Raising means that the stream failed")
AUTHORIZE = Rule("authorize", "Whether these credentials may join that protected server.")
UNLOGGED = Rule("authorize", "Never log the credentials.")
RECORD = Rule("record", "storing it twice must do no harm")
HTTP = Rule("http", "the first answer that is not ``None`` is sent")
COMMANDS = Rule("commands", "called without an instance")
