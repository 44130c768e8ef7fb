"""``python -m slstream`` is ``slstream``."""

from slstream.cli import main

if __name__ == "__main__":
    main()
