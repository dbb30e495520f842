"""``python -m d_back``."""

from d_back_core.cli.main import main

main(prog_name="d_back")
