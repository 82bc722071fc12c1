"""`python -m fairbench.cli`: the same as `python -m fairbench`; jobs start cells by it."""

from fairbench.cli.main import main

main()
