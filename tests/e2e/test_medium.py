"""Scenario 5: a machine that no network reaches gets its update from a medium."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.images import Loader, Repository, call
from tests.e2e.node import UPDATE_LIMIT, Node
from tests.e2e.promises import requests, roots

_STICK_SIZE = 1 << 30


def _stick(path: Path, content: Path) -> Path:
    """An image of a USB stick: one FAT file system with one file."""
    with path.open("wb") as file:
        file.truncate(_STICK_SIZE)
    subprocess.run(["mkfs.vfat", "-F", "32", "-n", "STICK", path], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mcopy", "-i", path, content, f"::{content.name}"], check=True)
    return path


def test_a_bundle_on_a_second_disk_updates_a_machine_that_never_had_a_network(
    make_node: Callable[[Loader], Node], loader: Loader, repository: Repository, tmp_path: Path
) -> None:
    release = repository.release("1.1.0")
    bundle = tmp_path / "1.1.0.bundle"
    call("bundle", str(repository.folder), str(bundle), "--channel", "stable", "--from", "1.0.0")
    node = make_node(loader)
    node.network(up=False)
    node.start(drives=[_stick(tmp_path / "stick.img", bundle)])
    bundle.unlink()
    assert node.wait_boot() == "a"
    node.configure()
    node.tell_status("without a network")

    node.run("mkdir /run/stick && mount -o ro /dev/nvme1n1 /run/stick")
    node.run("updatectl import --no-wait /run/stick/1.1.0.bundle")
    assert node.wait_for_reboot() == "b"

    # It looks for the repository meanwhile, and does not reach it.
    node.wait_for(lambda status: status["running"]["version"] == "1.1.0" and status["running"]["confirmed"],
                  UPDATE_LIMIT, what="that 1.1.0 is confirmed")  # fmt: skip
    node.tell_status("after")
    assert node.holds("b", release)
    assert roots(node) == ["a", "b"]
    assert requests(node) == []
