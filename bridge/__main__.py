"""`python -m bridge` and `ari-bridge`."""

import os
import signal
import sys


def main() -> int:
    """Run the command line."""
    # Until a process has something to end in order, Ctrl-C just ends it, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # told to stop, and so it did
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # everything is about to be read anyway
    # Our matrices are small: a second thread of numpy's library costs more than it brings
    # (docs/measurements.md), and a core of the neighbours'. It reads this when it is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from bridge import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
