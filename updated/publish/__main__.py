"""`releasectl`: the publisher's command."""

from __future__ import annotations

import re
import sys

INTERRUPTED = "releasectl: interrupted; nodes see the old state or the new one. Run the same command again: it goes on."

try:
    import argparse
    import errno
    import os
    from collections.abc import Sequence

    try:
        import numpy  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("releasectl: the library numpy is missing. Install it: pip install 'updated[publish]'")

    from bootctl.usage import Help
    from bootctl.version import ShowVersion
    from updated.core.errors import UpdatedError
    from updated.publish.misuse import Misuse
    from updated.publish.verbs import distribution, keys, releases, repository, requests
    from updated.publish.verbs.command import Run, VerbParser, Verbs, check_paths
except KeyboardInterrupt:  # while it loads
    print(INTERRUPTED, file=sys.stderr)
    sys.exit(130)

OK, FAILED, USAGE, NEGLECTED = 0, 1, 2, repository.NEGLECTED
_TEMPORARY = re.compile(r"\.([^/]+)\.\d+\.tmp$")
_FAULTS = {
    errno.ENOENT: ("there is no such file or folder", "Make the folder that it shall lie in, or name another place."),
    errno.ENOTDIR: ("it would lie in a file, not in a folder", "Name another place."),
    errno.EEXIST: ("there is a file of this name already", "Name another place, or move that away."),
    errno.EISDIR: ("is a folder", "Name a file."),
    errno.EACCES: ("this user may not do that", "Run this as the owner, or name another place."),
    errno.EPERM: ("this user may not do that", "Run this as the owner, or name another place."),
    errno.EROFS: ("lies on a file system that can only be read", "Mount that for writing, or name another place."),
}
"""By error number: what is wrong with a path that is written, and what to do about it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; 0 when it was done, 1 when it was refused or failed, 2 for wrong usage, or a status of its own."""
    try:
        options = parser().parse_args(arguments)
        check_paths(options)
        run: Run = options.run
        status = run(options)
        sys.stdout.flush()
    except UpdatedError as error:
        print(f"releasectl: {_line(error)}", file=sys.stderr)
        return USAGE if isinstance(error, Misuse) else FAILED
    except BrokenPipeError:
        # The reader of the output has left; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"releasectl: {_line(_storage_error(error, options))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 130
    return OK if status is None else status


def _line(error: UpdatedError) -> str:
    return " ".join(str(error).split())


def _storage_error(error: OSError, options: argparse.Namespace) -> UpdatedError:
    # A write to an open file does not say which; the last of these that the verb has is where it writes.
    places = [getattr(options, name, None) for name in ("keys", "repository", "destination", "file")]
    what = _TEMPORARY.sub(r"\1", str(error.filename or [place for place in places if place is not None][-1]))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UpdatedError("disk-full", what, "there is no space left", "Free some space, and run this again.")
    cause, mend = _FAULTS.get(error.errno or 0, (error.strerror or str(error), "Mend that, and run this again."))
    return UpdatedError("disk-error", what, cause, f"{mend} Nothing was published.")


def parser() -> VerbParser:
    """The parser of the whole command line. What it does not take raises `Misuse`."""
    made = VerbParser(
        prog="releasectl", description="Publish releases: keys, releases, channels and their signed metadata.",
        formatter_class=Help,
    )
    made.add_argument("--version", action=ShowVersion)
    verbs = Verbs(made.add_subparsers(dest="verb", required=True, metavar="VERB"))
    repository.declare(verbs)
    keys.declare(verbs.group("key", "make keys, and say which of them sign which role"))
    requests.declare(verbs.group("request", "sign a change together with others"))
    releases.declare(verbs)
    distribution.declare(verbs)
    return made


if __name__ == "__main__":
    sys.exit(main())
