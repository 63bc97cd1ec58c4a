"""`python -m hzcli` is `hz`."""

from hzcli.cli import main

if __name__ == "__main__":
    main()
