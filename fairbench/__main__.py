"""`python -m fairbench`: the command line where its script is not on the path."""

from fairbench.cli.main import main

main()
