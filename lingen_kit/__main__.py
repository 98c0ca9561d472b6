"""`python -m lingen_kit`."""

from lingen_kit.cli import main

if __name__ == "__main__":
    main()
