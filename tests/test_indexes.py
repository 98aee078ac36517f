"""The kept indexes: only what changed is fetched, what is damaged costs a download, and a cut leaves nothing half."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.fakes.sources import Fault, WatchedSource, cut, flipped, without_ranges
from tests.releases import Made, Repository
from updated import indexes as module
from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.index import Draft
from updated.core.release import Blob, Component, PatchInfo
from updated.indexes import Indexes
from updated.stored import StoredIndex

PAGES = 40
LONG = 2000  # bytes of a page, about: more than a gap that is read through


def page(number: int) -> list[Draft]:
    chunks = [(hashlib.sha256(f"{number} {chunk}".encode()).digest(), 1000 + chunk) for chunk in range(60)]
    return [(50_000, chunks), (0, 4096)]


def pages(*changed: int) -> list[list[Draft]]:
    """The pages of an image, of which some are others."""
    return [page(number + 1000 if number in changed else number) for number in range(PAGES)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the node keeps its indexes."""
    return tmp_path / "indexes"


@pytest.fixture
def old(repository: Repository) -> Made:
    return repository.listed(pages())


def fetched(repository: Repository, folder: Path, made: Made, fault: Fault | None = None) -> WatchedSource:
    """Fetches the index of `made`, checks it, and says what was asked for."""
    source = WatchedSource(repository.folder, fault)
    assert whole(Indexes(source, str(folder)).read(made.component)) == whole(made.index)
    return source


def whole(index: StoredIndex) -> tuple[object, ...]:
    return index.root, *index.pages()


def pages_name(made: Made) -> str:
    return f"blobs/{made.index.root.pages_sha256}"


def root_name(made: Made) -> str:
    return f"blobs/{made.component.index.sha256}"


def spans(made: Made, *numbers: int) -> list[tuple[str, int, int]]:
    entries = [made.index.root.entries[number] for number in numbers]
    return [(pages_name(made), entry.start, entry.length) for entry in entries]


def test_the_first_index_comes_whole_and_is_kept(repository: Repository, folder: Path, old: Made) -> None:
    source = fetched(repository, folder, old)
    assert source.reads == [root_name(old)]
    assert source.asked == [(pages_name(old), 0, len(old.pages))]
    assert set(os.listdir(folder)) == {old.component.index.sha256, old.index.root.pages_sha256}


def test_an_index_that_is_kept_is_not_asked_for_again(repository: Repository, folder: Path, old: Made) -> None:
    fetched(repository, folder, old)
    source = fetched(repository, folder, old)
    assert (source.reads, source.asked) == ([], [])


def test_of_the_next_index_only_the_changed_pages_are_fetched(repository: Repository, folder: Path, old: Made) -> None:
    fetched(repository, folder, old)
    new = repository.listed(pages(3, 20))
    assert fetched(repository, folder, new).asked == spans(new, 3, 20)


def test_what_was_downloaded_is_counted(repository: Repository, folder: Path, old: Made) -> None:
    fetched(repository, folder, old)
    new = repository.listed(pages(3, 20))
    indexes = Indexes(WatchedSource(repository.folder), str(folder))
    indexes.read(new.component)
    assert indexes.downloaded == len(new.root) + sum(length for _, _, length in spans(new, 3, 20))


def test_pages_that_moved_are_found_again(repository: Repository, folder: Path, old: Made) -> None:
    fetched(repository, folder, old)
    moved = repository.listed([page(5000), *pages()])
    assert fetched(repository, folder, moved).asked == spans(moved, 0)


def test_several_connections_share_the_pages(
    repository: Repository, folder: Path, old: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PER_REQUEST", 5 * LONG)
    source = WatchedSource(repository.folder)
    assert whole(Indexes(source, str(folder), 3).read(old.component)) == whole(old.index)
    assert len(source.asked) > PAGES / 6
    assert sum(length for _, _, length in source.asked) == len(old.pages)


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_kept_page_that_is_damaged_is_fetched_again_and_no_other(
    repository: Repository, folder: Path, old: Made
) -> None:
    fetched(repository, folder, old)
    damage(folder / old.index.root.pages_sha256, old.index.root.entries[7].start + 100)
    source = fetched(repository, folder, old)
    assert (source.reads, source.asked) == ([], spans(old, 7))


def test_a_damaged_page_of_the_old_index_is_not_taken_into_the_new_one(
    repository: Repository, folder: Path, old: Made
) -> None:
    fetched(repository, folder, old)
    damage(folder / old.index.root.pages_sha256, old.index.root.entries[7].start + 100)
    new = repository.listed(pages(3))
    assert fetched(repository, folder, new).asked == spans(new, 3, 7)


@pytest.mark.parametrize("keep_bytes", [0, 30, 500])
def test_pages_that_were_cut_short_on_the_disk_are_fetched_again(
    repository: Repository, folder: Path, old: Made, keep_bytes: int
) -> None:
    fetched(repository, folder, old)
    os.truncate(folder / old.index.root.pages_sha256, keep_bytes)
    assert fetched(repository, folder, old).asked == [(pages_name(old), 0, len(old.pages))]


def test_a_kept_root_that_is_damaged_is_fetched_again_and_its_pages_are_not(
    repository: Repository, folder: Path, old: Made
) -> None:
    fetched(repository, folder, old)
    damage(folder / old.component.index.sha256, 70)
    source = fetched(repository, folder, old)
    assert (source.reads, source.asked) == ([root_name(old)], [])


def test_what_is_damaged_after_it_was_read_is_noticed_when_it_is_used(
    repository: Repository, folder: Path, old: Made
) -> None:
    index = Indexes(WatchedSource(repository.folder), str(folder)).read(old.component)
    with (folder / old.index.root.pages_sha256).open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(UpdatedError) as caught:
        index.page(index.root.entries[0])
    assert caught.value.code == "wrong-digest"


def refused(repository: Repository, folder: Path, component: Component, fault: Fault | None = None) -> str:
    with pytest.raises(UpdatedError) as caught:
        Indexes(WatchedSource(repository.folder, fault), str(folder)).read(component)
    return caught.value.code


def test_a_root_or_a_page_that_is_not_the_signed_one_is_refused(
    repository: Repository, folder: Path, old: Made
) -> None:
    assert refused(repository, folder, old.component, flipped(root_name(old), 70)) == "wrong-digest"
    assert refused(repository, folder, old.component, flipped(pages_name(old), 9999)) == "wrong-digest"


def test_a_refusal_names_the_file_and_the_release(repository: Repository, folder: Path, old: Made) -> None:
    for fault, what in (
        (flipped(root_name(old), 70), f"the chunk index of 1.1.0, {root_name(old)}"),
        (flipped(pages_name(old), 9999), f"a page of the chunk index of 1.1.0, {pages_name(old)}"),
    ):
        with pytest.raises(UpdatedError) as caught:
            Indexes(WatchedSource(repository.folder, fault), str(folder)).read(old.component, version="1.1.0")
        assert (caught.value.what, caught.value.cause) == (what, "differs from its signed digest")
    fetched(repository, folder, old)


@pytest.mark.parametrize(("name", "at"), [(root_name, 70), (pages_name, 9999)])
def test_what_one_place_has_damaged_comes_from_another(
    repository: Repository, folder: Path, old: Made, name: Callable[[Made], str], at: int
) -> None:
    file = name(old)
    source = WatchedSource(repository.folder, flipped(file, at, times=1), patience=1)
    assert whole(Indexes(source, str(folder)).read(old.component)) == whole(old.index)
    assert [blamed for blamed, _ in source.blamed] == [file]


def test_blame_falls_on_the_page_that_is_damaged(repository: Repository, folder: Path, old: Made) -> None:
    source = WatchedSource(repository.folder, flipped(pages_name(old), 9999, times=1), patience=1)
    Indexes(source, str(folder)).read(old.component)
    [(_, position)] = source.blamed
    entry = next(entry for entry in old.index.root.entries if entry.start == position)
    assert entry.start <= 9999 < entry.start + entry.length


def test_from_a_server_without_ranges_the_pages_come_whole(repository: Repository, folder: Path, old: Made) -> None:
    fetched(repository, folder, old)
    new = repository.listed(pages(3, 20))
    source = fetched(repository, folder, new, without_ranges)
    assert source.asked[-1] == (pages_name(new), 0, len(new.pages))


def test_an_index_of_another_image_is_refused(repository: Repository, folder: Path, old: Made) -> None:
    component = old.component
    longer = Component(component.size + 1, component.sha256, component.index, component.blob)
    other = Blob(component.blob.sha256, component.blob.length + 1)
    assert refused(repository, folder, longer) == "index-invalid"
    assert refused(
        repository, folder, Component(component.size, component.sha256, component.index, other)
    ) == "index-invalid"


def test_a_root_without_end_is_not_read_to_its_end(
    repository: Repository, folder: Path, old: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROOT_LENGTH", len(old.root) - 1)
    assert refused(repository, folder, old.component) == "too-long"


@pytest.mark.parametrize("after", [0, 1, 9999, 70_000])
def test_a_cut_leaves_nothing_half(repository: Repository, folder: Path, old: Made, after: int) -> None:
    fetched(repository, folder, old)
    new = repository.listed(pages(*range(5, PAGES)))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert refused(repository, folder, new.component, cut(pages_name(new), after)) == "unreachable"

    assert not (folder / new.index.root.pages_sha256).exists()
    assert {name: (folder / name).read_bytes() for name in before} == before
    fetched(repository, folder, new)


def test_keep_removes_all_but_the_indexes_that_are_named(repository: Repository, folder: Path, old: Made) -> None:
    first, second = repository.listed(pages(1)), repository.listed(pages(2))
    for made in (old, first, second):
        fetched(repository, folder, made)
    (folder / "old.unfinished").write_bytes(b"half")
    Indexes(WatchedSource(repository.folder), str(folder)).keep([old.component, second.component])

    kept = (old, second)
    assert set(os.listdir(folder)) == {
        name for made in kept for name in (made.component.index.sha256, made.index.root.pages_sha256)
    }
    for made in kept:
        assert fetched(repository, folder, made).asked == []


def changed_index(repository: Repository, folder: Path, old: Made) -> Made:
    """An index of which most pages are others, with the difference to the old one, which is kept."""
    fetched(repository, folder, old)
    return repository.listed(pages(*range(5, PAGES)), old)


def with_difference(
    repository: Repository, folder: Path, new: Made, old: Made, fault: Fault | None = None
) -> WatchedSource:
    source = WatchedSource(repository.folder, fault)
    assert whole(Indexes(source, str(folder)).read(new.component, old.component)) == whole(new.index)
    return source


def difference_name(new: Made) -> str:
    info = new.component.patches[0]
    assert info.index is not None
    return f"blobs/{info.index.sha256}"


def test_an_index_comes_as_the_difference_to_that_of_the_base(
    repository: Repository, folder: Path, old: Made
) -> None:
    new = changed_index(repository, folder, old)
    source = with_difference(repository, folder, new, old)
    assert (source.reads, source.asked) == ([difference_name(new)], [])
    assert fetched(repository, folder, new).reads == []


def test_without_the_base_or_its_index_the_pages_are_fetched(repository: Repository, folder: Path, old: Made) -> None:
    new = changed_index(repository, folder, old)
    for name in os.listdir(folder):
        (folder / name).unlink()
    source = with_difference(repository, folder, new, old)
    assert (source.reads, source.asked) == ([root_name(new)], [(pages_name(new), 0, len(new.pages))])


def test_an_index_that_is_kept_needs_no_difference(repository: Repository, folder: Path, old: Made) -> None:
    new = changed_index(repository, folder, old)
    fetched(repository, folder, new)
    assert with_difference(repository, folder, new, old).reads == []


@pytest.mark.parametrize("fault", [lambda name: flipped(name, 40), lambda name: cut(name, 100)])
def test_a_difference_that_is_damaged_on_the_way_costs_the_pages(
    repository: Repository, folder: Path, old: Made, fault: Callable[[str], Fault]
) -> None:
    new = changed_index(repository, folder, old)
    source = with_difference(repository, folder, new, old, fault(difference_name(new)))
    assert root_name(new) in source.reads
    assert [start for _, start, _ in source.asked] == [new.index.root.entries[5].start]


def test_a_difference_that_is_missing_costs_the_pages(repository: Repository, folder: Path, old: Made) -> None:
    new = changed_index(repository, folder, old)
    (repository.folder / difference_name(new)).unlink()
    assert root_name(new) in with_difference(repository, folder, new, old).reads


def hostile(repository: Repository, new: Made, old: Made, data: bytes) -> Made:
    part = repository.put(data)
    info = PatchInfo(old.component.sha256, part, part, part)
    component = new.component
    patched = Component(component.size, component.sha256, component.index, component.blob, (info,))
    return Made(b"", patched, new.index, new.root, new.pages)


def contents(new: Made, old: Made) -> Sequence[bytes]:
    """Signed differences that a publisher should never have made."""
    base = old.root + old.pages
    return (
        b"",
        b"no zstd at all",
        b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + bytes(100),  # promises a terabyte
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip",  # a frame to be skipped
        prefixed.compress(b"", base, 3),
        prefixed.compress(old.root + old.pages, base, 3),
        prefixed.compress(new.root, base, 3),
        prefixed.compress(new.root + new.pages[:9999], base, 3),
        prefixed.compress(new.root + old.pages, base, 3),
        prefixed.compress(new.root + new.pages, b"another base" * 1000, 3),
    )


@pytest.mark.parametrize("which", range(10))
def test_a_difference_that_is_nonsense_falls_back_to_the_pages(
    repository: Repository, folder: Path, old: Made, which: int
) -> None:
    new = changed_index(repository, folder, old)
    new = hostile(repository, new, old, contents(new, old)[which])
    with_difference(repository, folder, new, old)


def test_a_base_that_is_damaged_on_the_disk_falls_back_to_the_pages(
    repository: Repository, folder: Path, old: Made
) -> None:
    new = changed_index(repository, folder, old)
    damage(folder / old.index.root.pages_sha256, 100)
    with_difference(repository, folder, new, old)


def test_a_difference_that_would_be_too_large_for_the_memory_is_not_used(
    repository: Repository, folder: Path, old: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = changed_index(repository, folder, old)
    monkeypatch.setattr(module, "MAX_WHOLE_INDEX", len(new.pages))
    assert root_name(new) in with_difference(repository, folder, new, old).reads
