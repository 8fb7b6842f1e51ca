"""`python -m lightning_polycom` is `polycom`."""

from lightning_polycom.cli import main

if __name__ == "__main__":
    main()
