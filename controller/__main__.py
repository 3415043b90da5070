"""Run the command line: python -m controller."""

from controller.cli import main

main()
