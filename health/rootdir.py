"""Paths below `--root`, as a process whose root directory that is would see them."""

import errno
import os
import stat

SYMLINK_LIMIT = 40
"""As many symbolic links as the kernel follows in one path (path_resolution(7))."""


def below(root: str, path: str) -> str:
    """The path, from outside, of what is `path` inside `root`.

    Symbolic links are followed inside `root`, and `..` can't leave it: an absolute link in an image means a file of
    that image, never one of the machine that looks at it. What does not exist is kept as it stands. Raises OSError
    (ELOOP) when there are too many links.
    """
    if root == "/":
        return os.path.join("/", path)
    pending = [part for part in reversed(path.split("/")) if part]
    inside: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == ".":
            continue
        if part == "..":
            del inside[-1:]
            continue
        outside = os.path.join(root, *inside, part)
        try:
            is_link = stat.S_ISLNK(os.lstat(outside).st_mode)
        except OSError:
            is_link = False
        if not is_link:
            inside.append(part)
            continue
        links += 1
        if links > SYMLINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), outside)
        target = os.readlink(outside)
        if target.startswith("/"):
            inside.clear()
        pending.extend(piece for piece in reversed(target.split("/")) if piece)
    return os.path.join(root, *inside)


def inside(root: str, command: tuple[str, ...]) -> tuple[str, ...]:
    """`command` as it is run with `root` as its root directory.

    unshare(1) is util-linux's chroot that also works without privileges, in a user namespace.
    """
    if root == "/":
        return command
    privileges = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *privileges, f"--root={root}", "--wd=/", "--", *command)
