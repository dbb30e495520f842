"""The rooms of a game's lobby, as a provider for d-back."""

from d_back_lobby.provider import Options, Provider

__all__ = ["Options", "Provider"]
