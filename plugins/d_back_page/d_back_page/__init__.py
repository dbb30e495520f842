"""The live page of a d-back gateway, at ``/``. Without a configuration it is what is shown there.

::

    [gateway]
    http = ["page"]

    [providers.page]
    token = { file = "operator.token" }     # for the operator's panel from elsewhere
"""

from d_back_page.provider import PageConfig, PageProvider

__all__ = ["PageConfig", "PageProvider"]
