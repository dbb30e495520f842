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
CONFIG = Promise("", "``config`` is the provider's table of ``d-back.toml``")
REFUSING = Promise("", "``Config.__post_init__`` may refuse by raising ``ValueError``")
CALLS = Promise("", "Each call runs under the provider's ``timeout``")
CONCURRENT = Promise("", "Calls for different servers may run at the same time")
BLOCKING = Promise("", "Nothing may block the event loop.")
RECORDS = Promise("", "a field that is not valid counts as not supplied")
CANCELLED = Promise("", "``CancelledError`` always passes")
SECRETS = Promise("", "Secrets are of the type `Secret`, and appear in no log, error and repr.")
STILL = Promise("", "What changes without an event is a change of the source")
START = Promise("start", "Open pools, log in, subscribe. Called before anything else is asked.")
SUBSCRIBE = Promise("start", "what happens after ``start`` must reach ``events``")
STOP = Promise("stop", "Give everything back, and end what ``events`` returned.")
PAIRS = Promise("stop", "Called once for each ``start``, also after a failed one.")
SERVERS = Promise("servers", "All servers of this provider, by server_id.")
USERS = Promise("users", "All users of that server, by uid.")
NOT_MINE = Promise("users", "``None``: not mine, or cannot say")
NOBODY = Promise("users", "``{}``: the server has no users.")
EVENTS = Promise("events", "Changes of this provider's own servers and users, and chat")
AUTHORIZE = Promise("authorize", "Whether these credentials may join that protected server.")
CLIENT_ID = Promise("client_id", "The OAuth2 client id that clients of that server log in with.")
RECORD = Promise("record", "storing it twice must do no harm")
HTTP = Promise("http", "the first answer that is not ``None`` is sent")
COMMANDS = Promise("commands", "A classmethod, called without an instance")
PROBE = Promise("start", "with ``context.probe``, subscribe to nothing")
