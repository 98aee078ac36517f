"""Names and files of the Boot Loader Specification; systemd's examples and the model of its loader are the judges."""

from __future__ import annotations

import fnmatch
import functools
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootctl import bls
from bootctl.bls import Entry, FileName
from tests.fakes.systemd_boot import uki, version_order

counts = st.integers(0, 15)
confs = st.lists(
    st.sampled_from([
        b"title x\n", b"version 1\n", b"version 0000000007\n", b"version 0000000007\r\n", b" version\t8 \n",
        b"sort-key x\n", b"machine-id 7\n", b"# updated: confirmed\n", b"# version 3\n", b"\n", b"\r", b"\0", b"\xff",
        b"linux /x\n", b"options a=1 version 5\n", b"version", b"no-newline",
    ]),
    max_size=12,
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("updated-a.conf", FileName("updated-a", ".conf")),
        ("updated-a+3.conf", FileName("updated-a", ".conf", 3, 0)),
        ("updated-a+3-0.conf", FileName("updated-a", ".conf", 3, 0)),
        ("updated-a+03-00.efi", FileName("updated-a", ".efi", 3, 0)),
        ("UPDATED-A+2-1.CONF", FileName("UPDATED-A", ".conf", 2, 1)),
        ("x+1+2-3.conf", FileName("x+1", ".conf", 2, 3)),
        ("x+1+y.conf", FileName("x+1+y", ".conf")),
        ("x+.conf", FileName("x+", ".conf")),
        ("x+3-.conf", FileName("x+3-", ".conf")),
        ("x+-3.conf", FileName("x+-3", ".conf")),
        ("x+3-2-1.conf", FileName("x+3-2-1", ".conf")),
        ("x+2147483648.conf", FileName("x+2147483648", ".conf")),
        ("x+3.conf.efi", FileName("x+3.conf", ".efi")),
        (".updated-a.conf", None),
        ("auto-x.conf", None),
        ("Auto-x.conf", None),
        ("updated-a.conf.tmp", None),
        ("updated-a", None),
        ("", None),
    ],
)
def test_a_name_is_read_as_the_loader_reads_it(name: str, expected: FileName | None) -> None:
    assert bls.parse_name(name) == expected


@pytest.mark.parametrize(
    ("stem", "slot"),
    [("updated-a", "a"), ("UPDATED-B", "b"), ("updated-system0", "system0"), ("updated-", None), ("updated-a-b", None),
     ("other-a", None), ("updated-ä", None), ("xupdated-a", None)],
)  # fmt: skip
def test_slots_are_found_whatever_the_case(stem: str, slot: str | None) -> None:
    assert FileName(stem, ".conf").slot == slot


@given(st.one_of(st.none(), counts), counts)
def test_a_name_that_is_written_is_read_back(left: int | None, done: int) -> None:
    name = bls.slot_name("a", bls.CONF, left, done if left is not None else 0)
    assert bls.parse_name(str(name)) == name


@pytest.mark.parametrize(
    ("left", "done", "text"),
    [(3, 0, "+3-0"), (10, 0, "+10-00"), (15, 0, "+15-00"), (9, 1, "+9-01"), (0, 0, "+0-0"), (0, 1, "+0-1")],
)
def test_the_counter_is_as_wide_as_it_gets(left: int, done: int, text: str) -> None:
    assert str(bls.slot_name("a", bls.UKI, left, done)) == f"updated-a{text}.efi"


@given(counts, counts)
def test_no_name_grows_while_the_loader_counts(left: int, done: int) -> None:
    before = str(bls.slot_name("a", bls.CONF, left, done))
    for used in range(1, left + 1):
        assert len(f"updated-a+{left - used}-{done + used}.conf") <= len(before)


@given(counts, counts, counts, counts)
def test_it_is_known_which_names_the_loader_comes_to(left: int, done: int, other_left: int, other_done: int) -> None:
    passed = {(left - used, done + used) for used in range(1, left + 1)}
    one, other = bls.slot_name("a", bls.CONF, left, done), bls.slot_name("a", bls.CONF, other_left, other_done)
    assert one.becomes(other) == ((other_left, other_done) in passed)
    assert not one.becomes(bls.slot_name("a", bls.CONF))


# From the comment of strverscmp_improved.
ASCENDING = [
    "122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1", "123a-1",
    "124-1",
]  # fmt: skip
version_texts = st.text("019aB~-^._+ ", max_size=8)


def test_versions_are_in_the_order_that_systemd_documents() -> None:
    mixed = [*ASCENDING[1::2], *ASCENDING[::2]]
    assert sorted(mixed, key=functools.cmp_to_key(bls.compare_versions)) == ASCENDING


@given(version_texts, version_texts)
@example("0000000009", "0000000010")
@example("00123", "123")
@example("1.2", "1..2")
@example("~", "")
def test_versions_compare_as_in_the_model(one: str, other: str) -> None:
    assert bls.compare_versions(one, other) == version_order(one, other)
    assert bls.compare_versions(other, one) == -bls.compare_versions(one, other)


def test_the_order_of_entries_is_bad_sort_key_machine_id_version_name() -> None:
    entries = [
        Entry(FileName("n", bls.CONF), "a", "1", "2"),
        Entry(FileName("m", bls.CONF), "a", "1", "2"),
        Entry(FileName("m", bls.CONF, 3, 0), "a", "1", "1"),
        Entry(FileName("m", bls.CONF, 2, 1), "a", "1", "1"),
        Entry(FileName("m", bls.CONF, 2, 2), "a", "1", "1"),
        Entry(FileName("z", bls.CONF), "a", "2", "9"),
        Entry(FileName("z", bls.CONF), "b", None, "9"),
        Entry(FileName("z", bls.CONF)),
        Entry(FileName("m", bls.CONF), version="9"),
        Entry(FileName("a", bls.CONF, 0, 3), "a", "1", "9"),
    ]
    mixed = [*entries[1::2], *entries[::2]]
    assert sorted(mixed, key=functools.cmp_to_key(bls.compare)) == entries
    used_up, other = entries[-1], entries[0]
    assert bls.compare(used_up, other) > 0 > bls.compare(used_up, other, bad_last=False)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"key value", [("key", "value")]),
        (b"  key \t  a b \t\n", [("key", "a b")]),
        (b"a 1\rb 2\r\nc 3\n\n\nd 4", [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]),
        (b"# key value\n  #x y\nkey\nkey \n", []),
        (b"a 'x y'\nb \"x\"\nc 'x\"\nd '\n", [("a", "x y"), ("b", "x"), ("c", "'x\""), ("d", "")]),
        (b"a 1\n\0b 2\n", [("a", "1")]),
        (b"a \xff\n", [("a", "\udcff")]),
        (b"", []),
    ],
)
def test_lines_are_split_as_the_loader_splits_them(data: bytes, expected: list[tuple[str, str]]) -> None:
    assert list(bls.pairs(data)) == expected


def test_an_entry_says_what_it_starts_and_its_place() -> None:
    conf = bls.parse_conf(
        b"title  X\nversion 1\nversion 0000000012\nsort-key updated\nmachine-id 12\nlinux /a/linux\ninitrd /i\n"
        b"options root=x\n# updated: confirmed\n"
    )
    assert conf == bls.Conf("updated", "12", "0000000012", (("linux", "/a/linux"),), confirmed=True)
    assert bls.number(conf.version) == 12


@pytest.mark.parametrize("version", [None, "", "12", "00000000012", "000000001a", "１２３４５６７８９０", "9" * 5000])
def test_a_version_that_is_not_ours_has_no_number(version: str | None) -> None:
    assert bls.number(version) is None


@given(st.one_of(st.binary(max_size=200), confs), st.integers(0, 10**10 - 1), st.sampled_from([None, "updated"]))
def test_a_version_is_set_and_all_else_is_kept(data: bytes, version: int, sort_key: str | None) -> None:
    before, new = bls.parse_conf(data), bls.with_version(data, version, sort_key=sort_key)
    after = bls.parse_conf(new)
    assert bls.number(after.version) == version
    assert (after.programs, after.confirmed) == (before.programs, before.confirmed)
    assert (after.sort_key, after.machine_id) == (
        (before.sort_key, before.machine_id) if sort_key is None else (sort_key, None)
    )
    assert bls.with_version(new, version) == new

    def others(text: bytes) -> list[bytes]:
        """Empty lines are none: two ends of lines that come together are one to `splitlines`."""
        lines = text.split(b"\0")[0].splitlines()
        return [line for line in lines if line and b"version" not in line and b"-" not in line]

    assert others(new) == others(data)


def test_a_version_of_ours_is_changed_in_its_place_and_the_length_stays() -> None:
    data = b"title x\r\nversion 0000000009\r\nlinux /x\r\n"
    assert bls.with_version(data, 10) == b"title x\r\nversion 0000000010\r\nlinux /x\r\n"
    assert bls.with_version(b"version 3\nlinux /x", 10) == b"version 0000000010\nlinux /x"


@given(st.one_of(st.binary(max_size=200), confs), st.booleans())
def test_the_mark_is_set_and_taken_away_and_all_else_is_kept(data: bytes, confirmed: bool) -> None:
    before, new = bls.parse_conf(data), bls.with_mark(data, confirmed=confirmed)
    after = bls.parse_conf(new)
    assert after.confirmed == confirmed
    assert (after.version, after.programs, after.sort_key) == (before.version, before.programs, before.sort_key)
    assert bls.with_mark(new, confirmed=confirmed) == new


def read_uki(data: bytes) -> Entry | None:
    return bls.uki_entry(FileName("x", bls.UKI), lambda offset, length: data[offset : offset + length])


@pytest.mark.parametrize(
    ("os_release", "sort_key", "version"),
    [
        ("ID=debian\nVERSION_ID=12\n", "debian", "12"),
        ('PRETTY_NAME="Debian 12"\nID=debian\nVERSION="12 (bookworm)"\nVERSION_ID=12\n', "debian", "12 (bookworm)"),
        ("ID=x\nIMAGE_ID=y\nVERSION_ID=1\nIMAGE_VERSION=2\n", "y", "2"),
        ("ID=x\nBUILD_ID=7\n", "x", "7"),
        ("NAME=X\n", None, None),
    ],
)
def test_an_image_is_described_by_its_os_release(os_release: str, sort_key: str | None, version: str | None) -> None:
    assert read_uki(uki(os_release)) == Entry(FileName("x", bls.UKI), sort_key, None, version)


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ".ljust(64, b"\xff"), uki(""), uki("VERSION_ID=1\n"), uki("x")])
def test_what_is_no_image_is_no_entry(data: bytes) -> None:
    assert read_uki(data) is None


@given(st.binary(max_size=300), st.integers(0, 400), st.binary(max_size=8))
def test_no_image_is_too_broken(garbage: bytes, at: int, patch: bytes) -> None:
    read_uki(garbage)
    whole = uki("ID=x\nVERSION_ID=1\n")
    read_uki(whole[:at] + patch + whole[at + len(patch) :])
    read_uki(whole[:at])


def test_a_real_image_is_read_in_small_pieces(tmp_path: Path) -> None:
    data, read = uki("ID=x\nVERSION_ID=1\n") + bytes(1 << 20), []

    def pread(offset: int, length: int) -> bytes:
        read.append(length)
        return data[offset : offset + length]

    assert bls.uki_entry(FileName("x", bls.UKI), pread) is not None
    assert sum(read) < 4096


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("updated-a.conf", ["updated-a.conf"], ["updated-a.con", "updated-a.conff", "xupdated-a.conf", ""]),
        ("updated-b[+.]*", ["updated-b.conf", "updated-b+1-0.conf"], ["updated-bb.conf", "updated-b"]),
        ("*", ["", "x"], []),
        ("", [""], ["x"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ab", "acb", "abcX"]),
        ("*.conf", ["x.conf", ".conf"], ["x.efi"]),
        ("a?c", ["abc"], ["ac", "abbc"]),
        ("[a-c-]", ["b", "-"], ["d", ""]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[]", [], ["", "]", "[]"]),
        ("[a", [], ["a", "[a"]),
        ("[!a]", ["!", "a"], ["b"]),
        (r"a\*", ["a*"], ["ab"]),
        ("a\\", [], ["a", "a\\"]),
        (r"[\]]", ["]"], ["\\"]),
    ],
)
def test_patterns_mean_what_they_mean_to_the_loader(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    assert [text for text in [*fits, *fits_not] if bls.matches(pattern, text)] == fits


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
@example("*a" * 20 + "b", "a" * 40)
def test_stars_and_question_marks_are_those_of_fnmatch(pattern: str, text: str) -> None:
    assert bls.matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_pattern_is_too_broken(pattern: str, text: str) -> None:
    bls.matches(pattern, text)
