"""`python -m eagleray`: the command."""

from eagleray.cli import main

main()
