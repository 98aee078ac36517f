"""What the tests of health share: trees of files, and real processes to look at."""

import os
import select
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Put = Callable[..., Path]

FAKES = Path(__file__).parent.parent / "fakes"


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a file below the test's root directory: put("etc/x", "text", mode=0o755)."""

    def write(path: str, content: str | bytes = "", mode: int = 0o644) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(mode)
        return file

    return write


def ends(pid: int) -> bool:
    """Whether a process is gone or goes within a few seconds, since SIGKILL works soon but not at once."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 5)[0])
    finally:
        os.close(descriptor)


def copy_program(program: str, root: Path) -> None:
    """Puts a program and the libraries that it loads at the same places below `root`."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    for path in (program, *libraries):
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(Path(path).read_bytes())
        target.chmod(0o755)
