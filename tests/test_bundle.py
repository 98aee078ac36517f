"""A bundle gives the same promises as a directory; and whatever the file is, reading it ends, with a clear word."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bundles import bundle_of
from updated import bundle
from updated.bundle import BundleSource, open_source_at, open_source_in
from updated.core.errors import UpdatedError
from updated.directory import PIECE, DirectorySource, open_import

BLOB = random.Random(1).randbytes(3 * PIECE + 7)
LONG = f"targets/releases/{'ab' * 32}.{'1.' * 40}0.json"
FILES = {"metadata/timestamp.json": b"{}", "metadata/1.root.json": b"", LONG: b"long", "blobs/x": BLOB}
BUNDLE = bundle_of(FILES)
SMALL = bundle_of({"metadata/timestamp.json": b"{}", LONG: b"long", "blobs/x": bytes(range(1, 176)) * 4})


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], BundleSource]]:
    """Opens these bytes as a bundle."""
    fds = []

    def source(data: bytes) -> BundleSource:
        (tmp_path / "bundle").write_bytes(data)
        fds.append(os.open(tmp_path / "bundle", os.O_RDONLY))
        return BundleSource(fds[-1], "bundle.tar")

    yield source
    for fd in fds:
        os.close(fd)


Opened = Callable[[bytes], BundleSource]


def _refused(call: Callable[..., Iterable[object]], *arguments: object) -> UpdatedError:
    with pytest.raises(UpdatedError) as refused:
        list(call(*arguments))
    return refused.value


def _refused_bundle(opened: Opened, data: bytes) -> UpdatedError:
    with pytest.raises(UpdatedError) as refused:
        opened(data)
    return refused.value


# ------------------------------------------------------------------------------------------------- what a source is


def test_each_file_is_read_whole_under_its_name(opened: Opened) -> None:
    source = opened(BUNDLE)
    assert len(LONG) > 100  # more than the first header holds
    for name, data in FILES.items():
        assert source.read(name, len(data)) == data


def test_a_range_is_streamed_exactly(opened: Opened) -> None:
    source = opened(BUNDLE)
    assert b"".join(source.stream("blobs/x", 100, PIECE + 5)) == BLOB[100 : PIECE + 105]
    assert list(source.stream("blobs/x", 100, 0)) == []


def test_no_byte_of_the_next_file_is_given(opened: Opened) -> None:
    assert _refused(opened(BUNDLE).stream, "metadata/timestamp.json", 0, 3).code == "truncated"


def test_a_file_longer_than_signed_is_refused(opened: Opened) -> None:
    assert _refused(opened(BUNDLE).read, "blobs/x", len(BLOB) - 1).code == "too-long"


@pytest.mark.parametrize("name", ["metadata/2.root.json", "blobs", "../bundle", "/blobs/x", "blobs//x", "", "x\0y"])
def test_what_is_not_in_it_is_not_found(opened: Opened, name: str) -> None:
    assert _refused(opened(BUNDLE).read, name, 10).code == "not-found"


def test_only_the_bundle_itself_could_deliver_other_bytes(opened: Opened) -> None:
    assert not opened(BUNDLE).blame("blobs/x", 100)


def test_several_threads_read_at_once_and_the_file_stays_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(BUNDLE)
    with (tmp_path / "bundle").open("rb") as file:
        file.seek(77)
        source = BundleSource(file.fileno(), "bundle.tar")

        def part(start: int) -> bool:
            return b"".join(source.stream("blobs/x", start, PIECE)) == BLOB[start : start + PIECE]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(part, range(0, 2 * PIECE, 4099)))
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 77


# -------------------------------------------------------------------------------------------- what is no bundle


@pytest.mark.parametrize("length", range(0, len(SMALL.rstrip(b"\0")) + 512, 211))
def test_a_bundle_that_was_cut_off_is_told(opened: Opened, length: int) -> None:
    error = _refused_bundle(opened, SMALL[:length])
    assert error.code in ("truncated", "bad-repository")
    assert "Copy the bundle again" in error.mend


def test_a_bundle_that_ends_between_two_files_is_not_taken_for_a_whole_one(opened: Opened) -> None:
    first = bundle_of({"metadata/timestamp.json": b"{}"})[:1024]
    assert (error := _refused_bundle(opened, first)).code == "truncated"
    assert "without the mark of its end" in error.cause


def test_a_header_that_is_damaged_is_not_taken_for_the_end(opened: Opened) -> None:
    data = bytearray(bundle_of({"blobs/x": b"x", "blobs/y": b"y"}))
    data[1024 + 150] ^= 1  # the checksum of the second header
    error = _refused_bundle(opened, bytes(data))
    assert (error.code, "no header at byte 1024" in error.cause) == ("bad-repository", True)


def test_a_bundle_that_shrinks_while_it_is_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(BUNDLE)
    source = open_source_at(str(tmp_path / "bundle"))
    os.truncate(tmp_path / "bundle", len(BUNDLE) - len(BLOB))
    assert _refused(source.read, "blobs/x", len(BLOB)).code == "truncated"


def member(kind: bytes, name: str = "blobs/x", size: int = 0, **fields: object) -> bytes:
    """One header, and the end."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    "kind",
    [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
     tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"],
)
def test_only_regular_files_are_accepted(opened: Opened, kind: bytes) -> None:
    error = _refused_bundle(opened, member(kind, linkname="/etc/hostname"))
    assert error.code == "bad-repository"
    assert "'blobs/x' in it is no regular file" in error.cause


@pytest.mark.parametrize("name", ["../x", "/etc/x", "blobs/../../x", "./blobs/x", "blobs//x"])
def test_a_name_that_leads_elsewhere_is_refused(opened: Opened, name: str) -> None:
    assert "leads out of the repository" in _refused_bundle(opened, member(tarfile.REGTYPE, name)).cause


def test_a_name_that_comes_twice_is_refused(opened: Opened) -> None:
    twice = bundle_of({"blobs/x": b"first"})[:1024] + bundle_of({"blobs/x": b"second"})
    assert "'blobs/x' is in it twice" in _refused_bundle(opened, twice).cause


def test_more_files_than_any_repository_has_are_refused(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_MEMBERS", 3)
    opened(bundle_of({f"blobs/{n}": b"" for n in range(3)}))
    assert "more than 3 files" in _refused_bundle(opened, bundle_of({f"blobs/{n}": b"" for n in range(4)})).cause


def test_a_compressed_bundle_is_refused(opened: Opened) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("blobs/x"))
    assert _refused_bundle(opened, target.getvalue()).code == "bad-repository"


def extended(records: bytes, *, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header (pax), before a file."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(records)
    return info.tobuf(tarfile.GNU_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0")


def record(key: str, value: str) -> bytes:
    """One record of an extended header."""
    text = f" {key}={value}\n"
    return next(f"{n}{text}".encode() for n in range(len(text), len(text) + 10) if len(f"{n}{text}") == n)


HOSTILE = {
    "a negative length": member(tarfile.REGTYPE, size=-1024),
    "a negative length of a header": member(tarfile.XHDTYPE, size=-512),
    "a negative length in pax": extended(record("size", "-2048")) + member(tarfile.REGTYPE),
    "a length without measure": member(tarfile.REGTYPE, size=2**60),
    "a header without measure": member(tarfile.XHDTYPE, size=2**33) + bytes(2**16),
    "a name without measure": member(tarfile.GNUTYPE_LONGNAME, size=2**33) + bytes(2**16),
    "headers of headers": extended(record("comment", "x")) * 3000 + member(tarfile.REGTYPE),
    "digits alone": extended(b"1" * 4096) + member(tarfile.REGTYPE),
    "a record of no length": extended(b"0 size=5\n") + member(tarfile.REGTYPE),
    "a sparse file of pax": extended(
        record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.realsize", "9")
    ) + member(tarfile.REGTYPE, size=512) + b"9" * 2048,
    "a name in no character set": member(tarfile.REGTYPE).replace(b"blobs/x", b"blobs/\xff"),
    "zeros": bytes(10 * 512),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_headers_end_in_an_error_and_in_bounded_time(opened: Opened, what: str) -> None:
    with pytest.raises(UpdatedError) as refused:
        opened(HOSTILE[what]).read("metadata/timestamp.json", 10)
    assert refused.value.code in ("bad-repository", "truncated", "not-found")


kinds = st.sampled_from(["flip", "set", "cut out", "double"])
changes = st.lists(st.tuples(st.integers(0, len(SMALL) - 1), kinds, st.integers(0, 255)), min_size=1, max_size=6)


@given(changes, st.none() | st.integers(0, len(SMALL)))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_an_error_or_another_repository_and_never_a_traceback(
    tmp_path: Path, damage: list[tuple[int, str, int]], length: int | None
) -> None:
    data = bytearray(SMALL)
    for at, how, value in damage:
        at = min(at, len(data) - 1)
        match how:
            case "flip":
                data[at] ^= value
            case "set":
                data[at : at + 12] = bytes([value]) * 12
            case "cut out":
                del data[at : at + 2 * value]
                data = data or bytearray(b"\0")
            case _:
                data[at:at] = data[at : at + 4 * value]
    (tmp_path / "bundle").write_bytes(data[:length])
    fd = os.open(tmp_path / "bundle", os.O_RDONLY)
    try:
        source = BundleSource(fd, "bundle.tar")
        for name in ("metadata/timestamp.json", LONG, "blobs/x"):
            source.read(name, 1 << 20)
    except UpdatedError:
        pass
    finally:
        os.close(fd)


@given(st.binary(max_size=3000))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bundle").write_bytes(data)
    with pytest.raises(UpdatedError):
        open_source_at(str(tmp_path / "bundle")).read("blobs/x", 10)


# ----------------------------------------------------------------------------------------- a path, and a descriptor


def test_a_path_is_a_bundle_or_a_directory(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(BUNDLE)
    (tmp_path / "repository/blobs").mkdir(parents=True)
    (tmp_path / "repository/blobs/x").write_bytes(BLOB)
    for place in ("bundle", "repository"):
        assert open_source_at(str(tmp_path / place)).read("blobs/x", len(BLOB)) == BLOB


def test_an_open_directory_is_read_wherever_it_was_moved(tmp_path: Path) -> None:
    (tmp_path / "repository/blobs").mkdir(parents=True)
    (tmp_path / "repository/blobs/x").write_bytes(b"x")
    fd = os.open(tmp_path / "repository", os.O_RDONLY)
    (tmp_path / "repository").rename(tmp_path / "moved")
    source = open_source_in(fd)
    assert isinstance(source, DirectorySource)
    assert source.read("blobs/x", 10) == b"x"
    assert b"".join(source.stream("blobs/x", 0, 1)) == b"x"
    error = _refused(source.read, "blobs/y", 10)
    assert (error.code, error.what) == ("not-found", "what was imported/blobs/y")
    assert _refused(source.read, "../x", 10).code == "not-found"
    os.close(fd)


def test_a_path_that_is_not_there_asks_for_the_medium(tmp_path: Path) -> None:
    error = _refused(open_source_at, str(tmp_path / "stick"))  # type: ignore[arg-type]
    assert (error.code, error.mend[:16]) == ("not-found", "Mount the medium")


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert _refused(open_source_at, str(tmp_path / "pipe")).code == "bad-repository"  # type: ignore[arg-type]
    fd = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert _refused(open_source_in, fd).code == "bad-repository"  # type: ignore[arg-type]
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not read")
def test_what_may_not_be_read_says_how_to_mend_it(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir(mode=0o700)
    (tmp_path / "blobs/x").write_bytes(b"x")
    source = open_source_in(os.open(tmp_path, os.O_RDONLY))
    os.seteuid(65534)
    try:
        error = _refused(source.read, "blobs/x", 10)
    finally:
        os.seteuid(0)
    assert error.code == "bad-repository"
    assert "chmod -R a+rX" in error.mend


# ----------------------------------------------------------------------------------------- what a person may name


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [("none", "not-found", "is not there. Mount the medium"),
     ("empty", "bad-repository", "there is no folder metadata"),
     ("text", "bad-repository", "is no bundle. Name a file that 'releasectl bundle' made"),
     ("zero", "bad-repository", "is no bundle"), ("pipe", "bad-repository", "is neither a directory nor a regular")],
)  # fmt: skip
def test_what_is_no_repository_is_refused_by_its_path_with_the_cause_and_the_mend(
    name: str, code: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("1.1.0\n" * 1000)
    (tmp_path / "zero").touch()
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UpdatedError) as refused:
        open_import(str(tmp_path / name))
    assert (refused.value.code, refused.value.what) == (code, f"{tmp_path}/{name}")
    assert words in str(refused.value)
    assert os.listdir("/proc/self/fd") == before, "nothing stays open"


def test_a_bundle_and_a_repository_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "repository/metadata").mkdir(parents=True)
    (tmp_path / "bundle.tar").write_bytes(BUNDLE)
    for name in ("repository", "bundle.tar"):
        os.close(open_import(str(tmp_path / name)))


def test_a_folder_that_is_not_there_or_holds_no_repository_is_named(tmp_path: Path) -> None:
    def mend(folder: Path) -> str:
        return _refused(DirectorySource(str(folder)).read, "metadata/timestamp.json", 100).mend

    assert f"There is no folder {tmp_path}/none: " in mend(tmp_path / "none")
    assert f"{tmp_path} holds no repository (no folder metadata)" in mend(tmp_path)
    (tmp_path / "metadata").mkdir()
    assert mend(tmp_path) == "Copy the repository there again."
