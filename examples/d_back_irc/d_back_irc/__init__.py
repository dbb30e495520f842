"""The members and the chat of IRC channels, as a provider for d-back."""

from d_back_irc.provider import Options, Provider

__all__ = ["Options", "Provider"]
