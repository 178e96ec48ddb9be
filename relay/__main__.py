"""python -m relay: the same as the console script."""

from relay.cli import main

main()
