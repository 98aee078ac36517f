"""The formats of U-Boot's environment and of fw_env.config, judged by mkenvimage, fw_printenv and fw_setenv."""

from __future__ import annotations

import subprocess
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bootctl.errors import BootError
from bootctl.uboot_env import (
    BootCount,
    Environment,
    Place,
    boot_count,
    format_environment,
    is_newer,
    parse,
    parse_config,
)

SIZE = 0x1000
VARIABLES = {"bootcmd": "run a; run b", "arch": "arm", "x": "y=z"}

# What the tools can be given, and list without ambiguity.
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True)
values = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\#"), min_size=1, max_size=40)
environments = st.dictionaries(names, values, min_size=1, max_size=8)
entries = st.binary(min_size=1, max_size=20).map(lambda text: text.replace(b"\0", b".")).filter(
    lambda text: text.partition(b"=")[0].strip(b" \t") != b""
)  # fmt: skip


def made(variables: Mapping[str, str], *options: str, size: int = SIZE) -> bytes:
    """An environment that mkenvimage made."""
    text = "".join(f"{name}={value}\n" for name, value in variables.items())
    with tempfile.TemporaryDirectory() as folder:
        run("mkenvimage", "-s", str(size), *options, "-o", f"{folder}/env", "-", words=text)
        return Path(folder, "env").read_bytes()


def printed(config: Path) -> dict[str, str] | None:
    """The variables that fw_printenv sees; None if it sees no environment."""
    done = subprocess.run(["fw_printenv", "-c", config], capture_output=True, check=False, timeout=30)
    if done.returncode:
        return None
    lines = done.stdout.decode(errors="surrogateescape").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def set_with_fw_setenv(config: Path, variables: Mapping[str, str]) -> None:
    """Set them in one write, as fw_setenv does from a script."""
    script = config.with_name("script")
    script.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    run("fw_setenv", "-c", str(config), "-s", str(script))


def run(*command: str, words: str = "") -> str:
    done = subprocess.run(command, check=True, input=words, capture_output=True, text=True, timeout=30)
    return done.stdout


def entries_of(variables: Mapping[str, str]) -> tuple[bytes, ...]:
    return tuple(f"{name}={value}".encode() for name, value in variables.items())


def single(variables: Mapping[str, str], size: int = SIZE) -> bytes:
    return format_environment(Environment(entries_of(variables)), size)


def redundant(variables: Mapping[str, str], flag: int, size: int = SIZE) -> bytes:
    return format_environment(Environment(entries_of(variables), flag), size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def config_of(folder: Path, *lines: str) -> Path:
    path = folder / "fw_env.config"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# --- the environment ---


@given(st.lists(entries, max_size=8), st.none() | st.integers(0, 255), st.binary(max_size=30))
def test_what_is_written_is_read_back(lines: list[bytes], flag: int | None, padding: bytes) -> None:
    environment = Environment(tuple(lines), flag, padding)
    data = format_environment(environment, 512)
    again = parse(data, 512, redundant=flag is not None)
    assert (again.entries, again.flag) == (environment.entries, flag)
    assert again.padding.endswith(padding)
    assert format_environment(again, 512) == data


@settings(max_examples=25)
@given(environments, st.sampled_from(["0x0", "0xff"]), st.booleans())
def test_mkenvimage_writes_the_same_bytes(variables: dict[str, str], padding: str, both: bool) -> None:
    data = made(variables, "-p", padding, *(["-r"] if both else []))
    environment = parse(data, SIZE, redundant=both)
    assert environment.variables == variables
    assert environment.entries == entries_of(variables)
    assert set(environment.padding) == {int(padding, 16)}
    ours = Environment(entries_of(variables), environment.flag, bytes([int(padding, 16)]))
    assert format_environment(ours, SIZE) == data
    assert environment.flag == (1 if both else None)


@settings(max_examples=25)
@given(environments, environments)
def test_fw_printenv_reads_what_we_write_and_we_read_what_fw_setenv_writes(
    first: dict[str, str], second: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "env")
        path.write_bytes(single(first))
        config = config_of(Path(name), f"{path} 0x0 {SIZE:#x}")
        assert printed(config) == first
        set_with_fw_setenv(config, second)
        assert parse(path.read_bytes(), SIZE, redundant=False).variables == first | second


@pytest.mark.parametrize(
    ("first", "second", "current"),
    [(1, 0, 0), (0, 1, 1), (255, 0, 1), (0, 255, 0), (255, 254, 0), (254, 255, 1), (7, 7, 0), (255, 1, 0), (128, 0, 0)],
)
def test_of_two_whole_copies_the_one_with_the_newer_flag_counts_also_for_fw_printenv(
    folder: Path, first: int, second: int, current: int
) -> None:
    (folder / "env").write_bytes(redundant({"copy": "0"}, first) + redundant({"copy": "1"}, second))
    config = config_of(folder, f"{folder}/env 0x0 {SIZE:#x}", f"{folder}/env {SIZE:#x} {SIZE:#x}")
    assert is_newer(second, first) == bool(current)
    assert printed(config) == {"copy": str(current)}


@pytest.mark.parametrize("flag", [0, 1, 254, 255])
def test_fw_setenv_counts_the_flag_as_we_do(folder: Path, flag: int) -> None:
    (folder / "env").write_bytes(redundant({"a": "1"}, flag) + redundant({"a": "0"}, (flag - 1) % 256))
    config = config_of(folder, f"{folder}/env 0x0 {SIZE:#x}", f"{folder}/env {SIZE:#x} {SIZE:#x}")
    set_with_fw_setenv(config, {"a": "2"})
    data = (folder / "env").read_bytes()
    copies = [parse(data[:SIZE], SIZE, redundant=True), parse(data[SIZE:], SIZE, redundant=True)]
    assert [copy.variables["a"] for copy in copies] == ["1", "2"]
    assert copies[1].flag == (flag + 1) % 256
    assert is_newer(copies[1].flag, flag)


def test_the_last_of_equal_names_counts_and_an_empty_value_removes() -> None:
    lines = (b"a=1", b"a=2", b"b=1", b"b=", b"c=1", b"c", b" \td=1", b"#e=1", b"f=\xff")
    assert Environment(lines).variables == {"a": "2", "d": "1", "f": "\udcff"}


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "0 bytes instead of 4096"),
        (single(VARIABLES)[:-1], "4095 bytes instead of 4096"),
        (single(VARIABLES) + b"\0", "4097 bytes instead of 4096"),
        (b"\xff" * SIZE, "checksum is wrong"),
        (b"\0" * SIZE, "checksum is wrong"),
        (redundant(VARIABLES, 1), "checksum is wrong"),
        (single(VARIABLES)[:-1] + b"\1", "checksum is wrong"),
        (zlib.crc32(b"a" * (SIZE - 4)).to_bytes(4, "little") + b"a" * (SIZE - 4), "no end"),
        (single({"": "x"}), "without a name"),
        (single({"a": "1", " ": "x"}), "without a name"),
    ],
)
def test_a_corrupt_environment_is_named_with_its_cause_and_mend(data: bytes, cause: str) -> None:
    with pytest.raises(BootError, match=cause) as caught:
        parse(data, SIZE, redundant=False)
    assert caught.value.code == "uboot-env-corrupt"
    assert "saveenv" in caught.value.mend


@given(st.binary(max_size=80), st.booleans(), st.booleans())
@example(b"\0\0", True, True)
def test_garbage_is_an_environment_or_a_boot_error(data: bytes, both: bool, right: bool) -> None:
    if right:
        data = zlib.crc32(data[int(both) :]).to_bytes(4, "little") + data
    try:
        environment = parse(data, len(data), redundant=both)
    except BootError as error:
        assert error.code == "uboot-env-corrupt"  # noqa: PT017
    else:
        assert format_environment(environment, len(data)) == data


def test_a_full_environment_is_refused() -> None:
    exact = Environment((b"x=" + b"y" * (SIZE - 8),))
    assert len(format_environment(exact, SIZE)) == SIZE
    with pytest.raises(BootError, match="need 4097 bytes, and it has 4096") as caught:
        format_environment(Environment((*exact.entries[:-1], exact.entries[0] + b"y")), SIZE)
    assert caught.value.code == "uboot-env-full"


def test_values_of_the_same_length_stay_where_they_are_and_change_nothing_else() -> None:
    before = parse(made({"A": "1", "BOOT_A": "x", "C": "2", "BOOT_B": "y"}, "-p", "0xaa"), SIZE, redundant=False)
    after = before.with_values({"BOOT_A": "7", "BOOT_B": "8"}, room=500)
    assert after.entries == (b"A=1", b"BOOT_A=7", b"C=2", b"BOOT_B=8")
    old, new = format_environment(before, SIZE), format_environment(after, SIZE)
    assert [index for index in range(4, SIZE) if old[index] != new[index]] == [4 + 11, 4 + 24]


@pytest.mark.parametrize(
    "lines",
    [
        (b"z=1", b"A=longer", b"y=2", b"B=1"),  # another length
        (b"z=1", b"A=1", b"y=2"),  # one is missing
        (b"z=1", b"A=1", b"y=2", b"B=1", b"B=1"),  # one is there twice
        (b"z=1", b"A=1", b"y=2", b"B=" + b"x" * 50),
        (b"z=" + b"1" * 40, b"A=1", b"B=1"),  # beyond the room
    ],
)
def test_otherwise_ours_come_first_and_all_others_follow_in_their_order(lines: tuple[bytes, ...]) -> None:
    after = Environment(lines).with_values({"B": "3", "A": "2"}, room=20)
    others = tuple(line for line in lines if line[:1] in b"zy")
    assert after.entries == (b"A=2", b"B=3", *others)


def test_padding_that_is_there_stays_where_it_is() -> None:
    padding = bytes(range(256)) * 4
    data = format_environment(Environment((b"a=1",), None, padding), SIZE)
    longer = parse(data, SIZE, redundant=False).with_values({"a": "12345"}, room=500)
    assert format_environment(longer, SIZE)[100:] == data[100:]


# --- fw_env.config ---


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("/dev/mmcblk0 0x1000 0x2000", [Place("/dev/mmcblk0", 0x1000, 0x2000)]),
        ("/dev/mmcblk0\t-0x2000\t0x2000\t0x200\t10\t1", [Place("/dev/mmcblk0", -0x2000, 0x2000)]),
        ("# a comment\n\n  # another\n /boot/uboot.env 0 4000 # why\r\n", [Place("/boot/uboot.env", 0, 0x4000)]),
        ("/a 4096 1000", [Place("/a", 4096, 0x1000)]),
        ("/a 010 1000", [Place("/a", 8, 0x1000)]),
        ("/a +0X10 0X1000", [Place("/a", 16, 0x1000)]),
        ("/a 0x0 1000\n/b 0x0 1000\n/c and so on", [Place("/a", 0, 0x1000), Place("/b", 0, 0x1000)]),
    ],
)
def test_the_lines_of_the_configuration_mean(text: str, places: list[Place]) -> None:
    assert parse_config(text.encode()) == tuple(places)


@pytest.mark.parametrize(("offset", "size"), [("0", "2000"), ("0x10", "0x2000"), ("010", "800"), ("16", "0x800")])
def test_fw_printenv_reads_the_numbers_as_we_do(folder: Path, offset: str, size: str) -> None:
    path = folder / "env"
    config = config_of(folder, f"# {path} 0x20 0x20", f"{path}  {offset}\t{size}")
    (place,) = parse_config(config.read_bytes())
    path.write_bytes(bytes(place.offset) + single(VARIABLES, place.size) + b"more")
    assert printed(config) == VARIABLES


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "names no place"),
        ("# only a comment\n", "names no place"),
        ("/dev/mmcblk0 0x1000", "line 1 is not"),
        ("\n/dev/mmcblk0", "line 2 is not"),
        ("uboot.env 0x0 0x4000", "line 1 is not"),
        ("/a x y", "line 1 is not"),
        ("/a 08 1000", "line 1 is not"),
        ("/a 0x0 0x4000K", "line 1 is not"),
        ("/a 0x0 0", "gives the size 0x0"),
        ("/a 0x0 ffffffffffff", "gives the size 0xffffffffffff"),
        ("/a 0x0 1000\n/b 0x0 2000", "different sizes"),
        ("uboot:\n  size : 0x4000\n", "line 1 is not"),
        ("/a\0b 0x0 1000", "line 1 is not"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_its_cause(text: str, cause: str) -> None:
    with pytest.raises(BootError, match=cause) as caught:
        parse_config(text.encode())
    assert caught.value.code == "uboot-config-corrupt"
    assert "DEVICE OFFSET SIZE" in caught.value.mend


fields = st.sampled_from([b"/dev/mmcblk0", b"/a", b"0x10", b"-1", b"99", b"0", b"\xff", b"\0", b"\t", b"\n", b"#"])


@given(st.binary(max_size=60) | st.lists(fields, max_size=12).map(b" ".join))
def test_garbage_is_a_configuration_or_a_boot_error(data: bytes) -> None:
    try:
        places = parse_config(data)
    except BootError as error:
        assert error.code == "uboot-config-corrupt"  # noqa: PT017
    else:
        assert len(places) in (1, 2)
        assert all(place.device.startswith("/") and "\0" not in place.device for place in places)


# --- the older convention ---


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({}, None),
        ({"altbootcmd": "run recovery"}, None),
        (
            {"bootcount": "1", "bootlimit": "3", "upgrade_available": "1", "altbootcmd": "run recovery"},
            BootCount(1, 3, 1, "run recovery"),
        ),
        ({"bootlimit": "5"}, BootCount(0, 5, None, "")),
        ({"upgrade_available": "0", "bootcount": "2x", "bootlimit": "x"}, BootCount(2, 0, 0, "")),
        ({"bootcount": "9" * 5000}, BootCount(int("9" * 18), 0, None, "")),
    ],
)
def test_the_boot_count_of_mender_and_swupdate_is_read(variables: dict[str, str], count: BootCount | None) -> None:
    assert boot_count(variables) == count


def test_u_boot_counts_by_itself_with_a_limit_and_unless_no_upgrade_is_available() -> None:
    assert BootCount(0, 3, 1, "").counting
    assert BootCount(0, 3, None, "").counting  # in a register of the processor
    assert not BootCount(0, 3, 0, "").counting
    assert not BootCount(0, 0, 1, "").counting
