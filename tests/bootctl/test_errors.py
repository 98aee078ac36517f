"""What a person is told of an error of the operating system: words, a path, and the mend that fits it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bootctl.errors import in_words, mend_of

ROOT = Path(__file__).parent.parent.parent
# Opens the file as somebody else than root, and prints what that person is told. Nothing is imported by that user.
AS_SOMEBODY = """\
import os, pwd, sys
from bootctl.errors import mend_of
user, path = int(sys.argv[1]), sys.argv[2]
os.setgroups([]); os.setresgid(user, user, user); os.setresuid(user, user, user)
try:
    open(path).close()
except OSError as error:
    print(mend_of(error))
"""


def failed(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.ENOSPC, "Free some space"), (errno.EDQUOT, "Free some space"), (errno.EROFS, "Mount its file system for"),
     (errno.EIO, "kernel log for disk errors"), (errno.ENOENT, "Name another one."), (errno.EISDIR, "Name another")],
)  # fmt: skip
def test_the_mend_fits_the_error_and_is_the_callers_own_where_that_tells_nothing(number: int, mend: str) -> None:
    assert mend in mend_of(failed(number), "Name another one.")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_root_who_may_not_is_not_sent_to_root(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert mend_of(failed(number)).startswith("Even root may not do this")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert mend_of(failed(number)) == "Run this as root."


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become others")
@pytest.mark.parametrize(("owner", "mend"), [(0, "Run this as root."), (1, "Run this as root, or as daemon, whose")])
def test_whoever_may_not_read_a_file_is_told_who_may(owner: int, mend: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    os.chown(path, owner, owner)
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY, "65534", str(path)], cwd=ROOT, capture_output=True, text=True, check=True,
        timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith(mend)


def test_words_have_the_path_and_no_number(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "none").read_bytes()
    assert in_words(caught.value) == f"{tmp_path}/none: No such file or directory"
    assert in_words(failed(errno.EIO)) == "Input/output error"
    assert in_words(ValueError("odd")) == "odd"
    assert in_words(ValueError()) == "ValueError"
