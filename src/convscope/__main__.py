"""``python -m convscope`` is the command line."""

from .cli import main

main()
