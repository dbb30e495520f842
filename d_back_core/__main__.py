"""``python -m d_back_core`` is ``d-back``."""

from d_back_core.cli.main import main

main()
