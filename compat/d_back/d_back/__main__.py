"""``python -m d_back``."""

from d_back.server import main_sync

main_sync()
