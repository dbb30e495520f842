"""The command line, ``d-back``."""
