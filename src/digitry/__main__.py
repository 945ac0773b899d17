"""`python -m digitry` is the command `digitry`."""

from digitry.cli.main import main

main()
