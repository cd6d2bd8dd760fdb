"""Where the command ``bnrnn`` starts: outside of the package, which takes seconds to import, so that Ctrl-C ends the
command quietly then too.
"""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Imports the package and carries out the command line."""
    earlier = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from bnrnn.cli import main

    signal.signal(signal.SIGINT, earlier)
    main()
