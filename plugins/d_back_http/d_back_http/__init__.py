"""Any program in any language as a source of d-back.

Pull: `polling` asks a JSON API, `resource` one of its URLs, and `mapping` makes records of what it
returns. Push: `push` answers the requests of other programs, `bodies` checks what they send, and
`pushed` holds it; `openapi` describes it. `pending` is the stream of one run.
"""

from d_back_http.config import HttpConfig, PushSource, ServersFields, UsersFields
from d_back_http.provider import HttpProvider

__all__ = ["HttpConfig", "HttpProvider", "PushSource", "ServersFields", "UsersFields"]
