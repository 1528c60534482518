"""`python -m ops`: the command line without its script."""

from ops.cli import main

if __name__ == "__main__":
    main(prog_name="pluggy-sync")
