"""The live state: which layers are in use, the worlds derived from them, and the subscribers
of each."""
