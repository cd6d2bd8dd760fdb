"""``python -m bnrnn`` is the command ``bnrnn``."""

from bnrnn.cli import main

if __name__ == "__main__":
    main()
