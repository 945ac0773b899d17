"""`python -m digitry` is the command `digitry`."""

from digitry.cli import main

main()
