"""`python -m pingvas.cli`: the command `pingvas`, where its script is not on the path."""

from pingvas.cli import main

main()
