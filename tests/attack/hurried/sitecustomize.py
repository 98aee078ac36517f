"""Python runs this at the start of a child whose PYTHONPATH names this folder (see `tests.attack.hurry`)."""

import sys
from pathlib import Path

if "fetch" in sys.orig_argv:
    # Children start with -P, and without the folder that they are started in.
    sys.path.append(str(Path(__file__).parents[3]))
    from tests.attack.hurry import hurry

    hurry()
