"""U-Boot 2023.01 itself, with boot.cmd and its environment as a file on FAT."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootctl.model import next_boot
from tests.qemu.disks import Files, replace_on_esp
from tests.qemu.loaders import ENVIRONMENT_SIZE, Node, UBootLoader, boot_each, boot_states, environment
from tests.qemu.promises import CountingPromises, armed, confirmed


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(UBootLoader(), tmp_path)


class TestUBoot(CountingPromises):
    """With a file for the environment."""


def printed(node: Node) -> dict[str, str]:
    """The variables of the first copy, as fw_printenv prints them."""
    with node.unpacked() as root:
        config = root / "tools.config"
        config.write_text(f"{root}/boot/uboot.env 0x0 0x{ENVIRONMENT_SIZE:x}\n")
        lines = subprocess.run(
            ["fw_printenv", "-c", config], check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        ).stdout.splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_the_last_resort_is_the_confirmed_slot_even_if_it_never_came_up(node: Node) -> None:
    node.change(confirmed("a", counted=1))
    node.change(armed(1))
    assert node.boots(4) == "baaa"


def test_fw_printenv_reads_what_u_boot_counted(node: Node) -> None:
    node.change(armed(9))
    before = printed(node)
    assert node.boot() == "b"
    after = printed(node)
    assert {name: after[name] for name in before} == {**before, "BOOT_B_LEFT": "8"}
    # The script saves all that U-Boot has, so that its own variables are there from then on.
    assert "bootcmd" in after


def test_a_kernel_that_cannot_be_loaded_falls_back_in_the_same_boot(node: Node) -> None:
    node.change(armed(3))
    replace_on_esp(node.disk, "slots", {"a": b"a kernel"})
    assert node.start().slot == "a"
    assert node.view().state("b").tries_left == 2


def test_after_a_cut_that_spoiled_the_first_copy_the_second_one_counts_and_the_first_one_is_whole_again(
    node: Node,
) -> None:
    node.change(armed(3))
    files = node.files()
    node.put({**files, "uboot.env": b"\0" * 512 + files["uboot.env"][512:]})
    assert node.boot() == "b"
    assert printed(node)["BOOT_B_LEFT"] == "2"


A, B = ("BOOT_A_LEFT=9", "BOOT_A_OK=1"), ("BOOT_B_LEFT=3", "BOOT_B_OK=0")
STATES: dict[str, Files] = {
    "a trial that is used up": {"uboot.env": environment(*A, "BOOT_B_LEFT=0", "BOOT_B_OK=0", "BOOT_ORDER=B A")},
    "all is used up": {"uboot.env": environment("BOOT_A_LEFT=0", "BOOT_B_LEFT=0", "BOOT_B_OK=0", "BOOT_ORDER=B A")},
    "boots in hexadecimal, by RAUC": {"uboot.env": environment(*A, "BOOT_B_LEFT=a", "BOOT_ORDER=B A")},
    "boots that are no number": {"uboot.env": environment(*A, "BOOT_B_LEFT=x", "BOOT_ORDER=B A")},
    "a slot that the order omits": {"uboot.env": environment(*A, *B, "BOOT_ORDER=A  ")},
}


def test_u_boot_reads_all_that_may_be_in_an_environment_as_the_model_does(tmp_path: Path) -> None:
    for name, (booted, files) in zip(STATES, boot_each(UBootLoader(), STATES.values()), strict=True):
        node = Node(UBootLoader(), tmp_path, STATES[name])
        slot, left = next_boot(node.view())
        node.put(files)
        assert (name, booted.slot, node.view()) == (name, slot, left)


def test_where_no_slot_may_boot_the_first_one_starts_and_not_a_prompt() -> None:
    nothing = environment("BOOT_A_LEFT=0", "BOOT_A_OK=0", "BOOT_B_LEFT=0", "BOOT_B_OK=0", "BOOT_ORDER=B A")
    states: list[Files] = [{"uboot.env": nothing}, {"uboot.env": b""}, {}]
    assert boot_states("uboot", states) == ["b", "a", "a"]
