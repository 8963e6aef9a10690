"""`python -m loreun_bench`."""

from loreun_bench.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
