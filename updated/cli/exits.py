"""The exit statuses of `updatectl`."""

from __future__ import annotations

from collections.abc import Mapping

DONE = 0
FAILED = 1
USAGE = 2
NO_DAEMON = 3
NOT_AUTHORIZED = 4
REFUSED = 5
INTERRUPTED = 130

BY_CODE: Mapping[str, int] = {
    "bad-request": USAGE,
    "daemon-not-running": NO_DAEMON,
    "not-authorized": NOT_AUTHORIZED,
    "not-possible-now": REFUSED,
}

HELP = """exit status:
  0  done
  1  it failed, or doctor found an error; the reason is on stderr
  2  a wrong argument
  3  the daemon does not run, and never wrote a status
  4  you may not do this
  5  the node refuses: it does not fit its state now
"""
