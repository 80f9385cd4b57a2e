"""`python -m bridge` and `ari-bridge`."""

import signal
import sys


def main() -> int:
    """Run the command line."""
    # Until a process has something to end in order, Ctrl-C just ends it, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bridge import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
