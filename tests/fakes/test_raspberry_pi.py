"""The model of the firmware keeps to what its documentation says; the files are the examples given there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.raspberry_pi import RaspberryPi, effective

INITIAL = b"[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n"
UPDATED = b"[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n"


@pytest.fixture
def board(tmp_path: Path) -> RaspberryPi:
    board = RaspberryPi(tmp_path / "first", tmp_path / "root")
    board.first.mkdir()
    write(board, INITIAL)
    return board


def write(board: RaspberryPi, content: bytes) -> None:
    (board.first / "autoboot.txt").write_bytes(content)


def told(board: RaspberryPi) -> tuple[int, ...]:
    folder = board.root / "proc/device-tree/chosen/bootloader"
    return tuple(int.from_bytes((folder / name).read_bytes(), "big") for name in ("partition", "tryboot"))


def test_the_flow_of_the_documentation(board: RaspberryPi) -> None:
    assert (board.power_on(), told(board)) == (2, (2, 0))
    assert (board.reboot("0 tryboot"), told(board)) == (3, (3, 1))
    write(board, UPDATED)
    assert (board.reboot(), told(board)) == (3, (3, 0))
    assert (board.reboot("0 tryboot"), told(board)) == (2, (2, 1))


def test_the_flag_is_spent_by_one_boot_and_lost_without_power(board: RaspberryPi) -> None:
    assert board.reboot("0 tryboot") == 3
    assert board.power_on() == 2
    assert board.reboot("0 tryboot") == 3
    assert board.reboot() == 2


def test_a_partition_in_the_argument_wins_over_the_file(board: RaspberryPi) -> None:
    assert board.reboot("3") == 3
    assert board.reboot("3 tryboot") == 3
    assert board.reboot("tryboot") == 2  # not after a number, so that it is no argument of the firmware


def test_each_boot_has_an_id_of_its_own(board: RaspberryPi) -> None:
    ids = set()
    for _ in range(3):
        board.power_on()
        ids.add((board.root / "proc/sys/kernel/random/boot_id").read_text())
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("content", "usual", "tryboot"),
    [
        (b"boot_partition=2\n", "2", "2"),
        (b"boot_partition=2\r\n[tryboot]\r\nboot_partition=3\r\n", "2", "3"),
        (b"[tryboot]\nboot_partition=3\n[all]\nboot_partition=2\n", "2", "2"),
        (b"boot_partition=2\n#boot_partition=4\n", "2", "2"),
        (b"boot_partition=2\nboot_partition=4", "4", "4"),
        (b"boot_partition=2\n[none]\nboot_partition=4\n[tryboot]\nboot_partition=5\n", "2", "2"),
        (b"boot_partition=2\n[none]\nboot_partition=4\n[all]\n[tryboot]\nboot_partition=5\n", "2", "5"),
        (b"boot_partition=2\n[partition=4]\nboot_partition=5\n", "2", "2"),
        (b"boot_partition=2\n[partition=0]\n[tryboot]\nboot_partition=5\n", "2", "5"),
        (b"boot_partition=2\n[partition=4]\n[partition=0]\nboot_partition=5\n", "5", "5"),
        (b"boot_partition=2\n[gpio4=1]\nboot_partition=5\n", "2", "2"),
        (b"boot_partition=2\n" + b"#" * 500, None, None),
        (b"boot_partition=2\n\0", None, None),
        (b"", None, None),
    ],
)
def test_filters(content: bytes, usual: str | None, tryboot: str | None) -> None:
    assert effective(content, tryboot=False, requested=0).get("boot_partition") == usual
    assert effective(content, tryboot=True, requested=0).get("boot_partition") == tryboot


def test_what_stands_beyond_98_characters_is_ignored() -> None:
    assert effective(b"x=" + b"y" * 200, tryboot=False, requested=0) == {"x": "y" * 96}


def test_without_tryboot_a_b_a_tryboot_needs_other_files(board: RaspberryPi) -> None:
    write(board, INITIAL.replace(b"tryboot_a_b=1\n", b""))
    assert board.reboot("0 tryboot") is None
    board.partitions = {2: frozenset({"config.txt"}), 3: frozenset({"tryboot.txt"})}
    assert board.reboot("0 tryboot") == 3
    assert board.reboot() == 2


def test_what_cannot_boot_is_passed_over(board: RaspberryPi) -> None:
    board.partitions = {1: frozenset(), 2: frozenset(), 3: frozenset({"config.txt"})}
    assert board.power_on() is None
    board.partition_walk = True
    assert board.power_on() == 3
    board.partitions = {1: frozenset({"config.txt"}), 2: frozenset(), 3: frozenset({"config.txt"})}
    board.partition_walk = False
    assert board.power_on() == 1


def test_a_lost_file_leads_to_the_first_partition_that_boots(board: RaspberryPi) -> None:
    (board.first / "autoboot.txt").unlink()
    assert board.power_on() == 2
    board.partitions = {3: frozenset({"config.txt"})}
    assert board.power_on() == 3
    board.partitions = {}
    assert board.power_on() is None
