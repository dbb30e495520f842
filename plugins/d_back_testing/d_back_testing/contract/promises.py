"""What the contract quotes when it is broken, and where that is written.

A test holds every quotation against `d_back_core.hookspecs`.
"""

from typing import NamedTuple


class Promise(NamedTuple):
    """A sentence of the contract."""

    hook: str
    """Whose docstring says so; "": that of the module `d_back_core.hookspecs`."""
    text: str

    def __str__(self) -> str:
        place = f"ProviderSpec.{self.hook}" if self.hook else "at the top"
        page = f"{self.hook}" if self.hook else "the hooks"
        return f'"{self.text}"\n(d_back_core.hookspecs, {place}; docs/en/hooks.md, {page})'


HOOKS = Promise("", "An implementation declares of a hook's arguments those that it needs.")
CONFIG = Promise("", "decoded into the class attribute ``Config``")
REFUSING = Promise("", "``Config.__post_init__`` may refuse by raising ``ValueError``")
CONSTRUCTOR = Promise("", "the constructor by raising `ConfigError`")
SECRETS = Promise("", "no log, error or repr may show it")
CALLS = Promise("", "Each call runs under the provider's ``timeout``")
CANCELLED = Promise("", "``CancelledError`` always passes")
CONCURRENT = Promise("", "Calls for different servers may run at the same time")
BLOCKING = Promise("", "Nothing may block the event loop.")
STILL = Promise("", "What is answered changes with the source only")
RECORDS = Promise("", "a field that is not valid counts as not supplied")
START = Promise("start", "Raising means: not available now")
NEVER = Promise("start", "Raising `ConfigError` means: never, until the configuration changes.")
SUBSCRIBE = Promise("start", "what happens after ``start`` must reach ``events``")
PROBE = Promise("start", "With ``context.probe``, log in and subscribe to nothing.")
STOP = Promise("stop", "Give everything back, and end what ``events`` returned.")
PAIRS = Promise("stop", "Called once for each ``start``, also after a failed one.")
SERVERS = Promise("servers", "All servers of this provider, by server_id.")
CANNOT_SAY = Promise("servers", "``None``: cannot say now; the next provider is asked.")
USERS = Promise("users", "All users of that server, by uid.")
NOT_MINE = Promise("users", "``None``: not mine, or cannot say")
EVENTS = Promise("events", "Changes of this provider's own servers and users, and chat")
FAILED = Promise("events", "Raising means that the stream failed")
AUTHORIZE = Promise("authorize", "Whether these credentials may join that protected server.")
UNLOGGED = Promise("authorize", "Never log the credentials.")
RECORD = Promise("record", "storing it twice must do no harm")
HTTP = Promise("http", "the first answer that is not ``None`` is sent")
COMMANDS = Promise("commands", "called without an instance")
