"""`python -m health`: judges the running slot, and does what belongs around the verdict; one verb for each."""

import gc
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and gives its exit status; a rejected slot's 3 asks the service manager for the reboot."""
    # What is loaded now stays: to look through it for garbage takes a tenth of the start.
    gc.set_threshold(50_000)
    try:
        # Here and not above: somebody may interrupt the loading, too.
        from health.verbs import run

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("health: interrupted; no slot was confirmed or given up. Run it again.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
