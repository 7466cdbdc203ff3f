"""``python -m separable`` is the ``separable`` command."""

from .cli import main

main()
