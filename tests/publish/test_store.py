"""The files of a release: which patches it has, what is used again, and what is done about damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.publish.conftest import Desk
from tests.publish.synthetic import edited, noise, text
from updated import prefixed
from updated.core.errors import UpdatedError
from updated.core.release import Blob, Component, PatchInfo, Release
from updated.core.version import Version
from updated.publish import blob, patch, store
from updated.publish.adding import add
from updated.publish.inspection import verify
from updated.publish.known import stored_index, whole_index
from updated.publish.store import Stored
from updated.stored import parse_table

IMAGE = noise(1, 1_000_000) + bytes(100_000)


def image(number: int) -> bytes:
    """The image of the release 1.`number`: each has one edit more."""
    return edited(IMAGE, *(100_000 * each + 50_000 for each in range(number)))


def bases(desk: Desk, version: str) -> list[str]:
    """From which releases `version` has patches."""
    versions = {desk.component(each).sha256: each for each in desk.repository.versions}
    return [versions[each.base] for each in desk.component(version).patches]


def files(desk: Desk) -> set[str]:
    return set(os.listdir(desk.path / "blobs"))


def referenced(desk: Desk) -> set[str]:
    """The files in `blobs/` that releases name."""
    names: set[str] = set()
    for version in desk.repository.versions:
        component = desk.component(version)
        root = stored_index(str(desk.path / "blobs"), component).root
        names |= {component.index.sha256, component.blob.sha256, root.pages_sha256}
        for info in component.patches:
            names |= {part.sha256 for part in (info.table, info.blob, info.index) if part is not None}
    return names


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# ---------------------------------------------------------------------------------------------------- which patches


@pytest.mark.parametrize(
    ("patches", "expected"), [(0, []), (1, ["1.2"]), (2, ["1.2", "1.1"]), (9, ["1.2", "1.1", "1.0"])]
)
def test_patches_are_from_the_newest_releases_below(desk: Desk, patches: int, expected: list[str]) -> None:
    for number in range(3):
        desk.add(f"1.{number}", content=image(number))
    desk.add("2.0", content=image(9))
    desk.add("1.3", content=image(3), patches=patches)
    assert bases(desk, "1.3") == expected
    assert files(desk) == referenced(desk)


def test_patches_are_from_releases_for_the_same_machines_with_the_same_component(desk: Desk) -> None:
    desk.add("1.0", content=image(0))
    desk.add("1.1", content=image(1), compatible="other")
    desk.add("1.2", content=image(2), component="firmware")
    desk.add("1.3", content=image(3))
    assert [each.base for each in desk.component("1.3").patches] == [desk.component("1.0").sha256]


def test_there_is_no_patch_from_the_very_same_image_and_one_from_each_other(desk: Desk) -> None:
    for version, number in (("1.0", 0), ("1.1", 0), ("1.2", 1)):
        desk.add(version, content=image(number), patches=9)
    desk.add("1.3", content=image(1), patches=9)
    first = desk.component("1.0").sha256
    assert [each.base for each in desk.component("1.2").patches] == [first]
    assert [each.base for each in desk.component("1.3").patches] == [first]
    assert desk.component("1.1").patches == ()


def test_there_is_no_patch_when_nothing_is_new(desk: Desk) -> None:
    desk.add("1.0", content=IMAGE)
    desk.add("1.1", content=IMAGE + bytes(500_000))
    assert desk.component("1.1").patches == ()
    assert files(desk) == referenced(desk)


def test_there_is_no_patch_that_saves_nothing(desk: Desk) -> None:
    desk.add("1.0", content=IMAGE)
    # Most of the blob is not needed; but what is needed is not smaller in a patch.
    desk.add("1.1", content=IMAGE[:600_000] + noise(2, 800_000) + IMAGE[600_000:])
    desk.add("1.2", content=noise(3, 500_000))
    assert desk.component("1.1").patches == desk.component("1.2").patches == ()
    assert files(desk) == referenced(desk)


def test_a_release_that_goes_back_to_an_older_image_has_a_patch_from_what_lies_between(desk: Desk) -> None:
    desk.add("1.0", content=image(1))
    desk.add("1.1", content=image(0))
    before = files(desk)
    stored = desk.add("1.2", content=image(1))["rootfs"]
    assert (stored.new, list(stored.patches)) == (0, ["1.1"])
    assert desk.component("1.2").blob == desk.component("1.0").blob
    assert before < files(desk) == referenced(desk)
    # And the next one like it uses that patch again.
    desk.add("1.3", content=image(0))
    before = files(desk)
    desk.add("1.4", content=image(1))
    assert desk.component("1.4").patches == desk.component("1.2").patches
    assert files(desk) == before
    verify(desk.repository, now=desk.now)


# ------------------------------------------------------------------------------------------------- what is in a patch


def the_patch(desk: Desk) -> PatchInfo:
    desk.add("1.0", content=image(0))
    desk.add("1.1", content=image(5))
    return desk.component("1.1").patches[0]


def test_a_patch_is_far_smaller_than_what_it_stands_for(desk: Desk) -> None:
    info = the_patch(desk)
    index = stored_index(str(desk.path / "blobs"), desk.component("1.1"))
    table = parse_table(desk.blob(info.table).read_bytes(), index.root.chunk_count)
    assert table.length == info.blob.length == desk.blob(info.blob).stat().st_size
    assert info.blob.length + info.table.length < desk.component("1.1").blob.length / 20


def test_the_difference_of_the_indexes_gives_root_and_pages(desk: Desk) -> None:
    info = the_patch(desk)
    before, after = (whole_index(str(desk.path / "blobs"), desk.component(each)) for each in ("1.0", "1.1"))
    assert info.index is not None
    data = desk.blob(info.index).read_bytes()
    assert prefixed.decompress(prefixed.decompressor(before, len(after)), data, len(after)) == after
    assert info.index.length < len(after) / 2


def test_indexes_that_are_large_have_no_difference(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_WHOLE_INDEX", 1000)
    assert the_patch(desk).index is None
    verify(desk.repository, now=desk.now)


# -------------------------------------------------------------------------------------------------- used again, damage


def test_frames_of_older_releases_are_in_the_new_blob_as_they_are(desk: Desk) -> None:
    desk.add("1.0", content=noise(4, 3_000_000))
    stored = desk.add("1.1", content=edited(noise(4, 3_000_000), 2_000_000))["rootfs"]
    index = stored_index(str(desk.path / "blobs"), desk.component("1.1"))
    old, new = (desk.blob(desk.component(version).blob).read_bytes() for version in ("1.0", "1.1"))
    kept = [frame for frame in index.frames() if new[frame.position : frame.position + frame.stored] in old]
    assert sum(frame.stored for frame in kept) == len(new) - stored.new
    assert 0 < stored.new < len(new)


@pytest.mark.parametrize("part", ["blob", "root", "pages"])
@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "missing"])
def test_a_release_is_published_without_a_patch_from_one_that_is_damaged(desk: Desk, part: str, gone: bool) -> None:
    desk.add("1.0", content=image(0))
    desk.add("1.1", content=edited(IMAGE, 700_000))
    component = desk.component("1.0")
    root = stored_index(str(desk.path / "blobs"), component).root
    file = desk.blob({"blob": component.blob, "root": component.index, "pages": Blob(root.pages_sha256, 0)}[part])
    if gone:
        file.unlink()
    else:
        damage(file)

    stored = desk.add("1.2", content=image(2))["rootfs"]

    assert (list(stored.patches), stored.damaged) == (["1.1"], ("1.0",))
    assert bases(desk, "1.2") == ["1.1"]
    assert "no patch from 1.0, whose files are damaged" in str(stored)
    # All of the new release is whole: what is damaged was not used again.
    new = desk.component("1.2")
    index = stored_index(str(desk.path / "blobs"), new)
    with open(desk.blob(new.blob), "rb") as file_of_new:
        blob.check(new, desk.blob(new.index).read_bytes(), index, file_of_new)
    with pytest.raises(UpdatedError):
        verify(desk.repository, now=desk.now)


def test_an_image_that_was_damaged_after_it_was_read_is_not_published(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.add("1.0", content=image(0))
    make = patch.make

    def spoil(*arguments: Any, **named: Any) -> object:
        (desk.images / "1.1-rootfs.img").write_bytes(bytes(len(IMAGE)))
        return make(*arguments, **named)

    monkeypatch.setattr(patch, "make", spoil)
    with pytest.raises(UpdatedError) as caught:
        desk.add("1.1", content=image(1))
    assert caught.value.code == "bad-image"
    assert desk.repository.versions == ["1.0"]


@pytest.mark.parametrize("part", ["blob", "root", "pages"])
def test_an_image_whose_files_were_lost_is_stored_again(desk: Desk, part: str) -> None:
    desk.add("1.0", content=image(0))
    component = desk.component("1.0")
    root = stored_index(str(desk.path / "blobs"), component).root
    desk.blob({"blob": component.blob, "root": component.index, "pages": Blob(root.pages_sha256, 0)}[part]).unlink()
    desk.add("1.1", content=image(0))
    verify(desk.repository, now=desk.now)


def test_a_patch_whose_files_were_lost_is_made_again(desk: Desk) -> None:
    info = the_patch(desk)
    desk.blob(info.blob).unlink()
    desk.add("1.2", content=image(5))
    assert [each.base for each in desk.component("1.2").patches] == [info.base]
    verify(desk.repository, now=desk.now)


@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "missing"])
def test_each_file_of_a_release_is_made_anew_from_the_same_image(desk: Desk, gone: bool) -> None:
    for number in range(3):
        desk.add(f"1.{number}", content=image(number))
    desk.now += 60
    desk.add("1.1.5", content=image(7))
    before = {file: file.read_bytes() for file in (desk.path / "blobs").iterdir()}
    component = desk.component("1.2")
    parts = [component.index, component.blob]
    parts += [part for info in component.patches for part in (info.table, info.blob, info.index) if part is not None]
    assert len(parts) == 8
    for part in parts:
        file = desk.blob(part)
        if gone:
            file.unlink()
        else:
            damage(file)
        assert desk.add("1.2", content=image(2)) == {}
        assert file.read_bytes() == before[file]
    assert {file: file.read_bytes() for file in (desk.path / "blobs").iterdir()} == before
    verify(desk.repository, now=desk.now)


def test_what_came_later_has_no_say_in_what_is_made_anew(desk: Desk) -> None:
    new = noise(5, 400_000)
    desk.add("1.0", content=IMAGE)
    desk.add("1.2", content=IMAGE + new)
    desk.now += 60
    desk.add("1.1", content=IMAGE + new[:200_000])  # cuts the frames of what comes after it in two
    desk.blob(desk.component("1.2").blob).unlink()
    assert desk.add("1.2", content=IMAGE + new) == {}
    verify(desk.repository, now=desk.now)


def test_a_patch_from_what_came_after_the_image_is_made_anew(desk: Desk) -> None:
    for version, number in (("1.0", 1), ("1.1", 0), ("1.2", 1)):
        desk.add(version, content=image(number))
    [info] = desk.component("1.2").patches
    desk.blob(info.table).unlink()
    assert desk.add("1.2", content=image(1)) == {}
    verify(desk.repository, now=desk.now)


def test_a_release_that_was_made_after_a_damaged_one_is_restored_after_that(desk: Desk) -> None:
    desk.add("1.0", content=image(0))
    desk.add("1.1", content=image(1))
    [info] = desk.component("1.1").patches
    desk.blob(info.blob).unlink()
    damage(desk.blob(desk.component("1.0").index))
    with pytest.raises(UpdatedError, match=f"blobs/{info.blob.sha256}: is missing.*Restore the older release first"):
        desk.add("1.1", content=image(1))
    desk.add("1.0", content=image(0))
    desk.add("1.1", content=image(1))
    verify(desk.repository, now=desk.now)


def test_what_another_level_makes_is_never_put_in_the_place_of_a_file(desk: Desk) -> None:
    desk.add("1.0", content=text(1, 1_000_000))
    file = desk.blob(desk.component("1.0").blob)
    damage(file)
    damaged, names = file.read_bytes(), files(desk)
    draft = Release(Version("1.0"), "demo", int(desk.now), {}, "")
    with pytest.raises(UpdatedError, match=f"blobs/{file.name}.*another --level") as caught:
        add(desk.repository, desk.keys, draft, {"rootfs": str(desk.images / "1.0-rootfs.img")}, now=desk.now, level=19)
    assert caught.value.code == "bad-repository"
    assert (file.read_bytes(), files(desk)) == (damaged, names)


def test_a_patch_that_another_level_makes_is_not_stored(desk: Desk) -> None:
    old = text(1, 1_000_000)
    desk.add("1.0", content=old)
    desk.add("1.1", content=edited(old, *range(10_000, 1_000_000, 20_000)))
    [info] = desk.component("1.1").patches
    desk.blob(info.blob).unlink()
    names = files(desk)
    draft = Release(Version("1.1"), "demo", int(desk.now), {}, "")
    with pytest.raises(UpdatedError, match=f"blobs/{info.blob.sha256}: is missing.*another --level"):
        add(desk.repository, desk.keys, draft, {"rootfs": str(desk.images / "1.1-rootfs.img")}, now=desk.now, level=19)
    assert files(desk) == names


def test_a_damaged_release_is_not_mended_with_another_image(desk: Desk) -> None:
    desk.add("1.0", content=image(0))
    damage(desk.blob(desk.component("1.0").blob))
    with pytest.raises(UpdatedError, match="is published already, with other content"):
        desk.add("1.0", content=image(1))


# ---------------------------------------------------------------------------------------------------------- figures


def test_what_was_stored_is_told_in_one_line(desk: Desk) -> None:
    first = desk.add("1.0", content=image(0))["rootfs"]
    second = desk.add("1.1", content=image(5))["rootfs"]
    assert (first.new, first.patches) == (first.component.blob.length, {})
    assert second.patches == {
        "1.0": second.component.patches[0].table.length + second.component.patches[0].blob.length
    }
    assert str(first) == "1.1 MB image, 1.0 MB blob, 1.0 MB of it new"
    assert str(second).endswith(f"MB of it new; patch from 1.0: {second.patches['1.0']} bytes")


def test_the_line_of_a_large_image() -> None:
    component = Component(2_147_483_648, "ab" * 32, Blob("cd" * 32, 9), Blob("ef" * 32, 494_600_000))
    stored = Stored(component, 38_140_000, {"1.1.0": 900_000, "1.0.0": 1_250_000})
    assert str(stored) == (
        "2147.5 MB image, 494.6 MB blob, 38.1 MB of it new; patch from 1.1.0: 0.9 MB; patch from 1.0.0: 1.2 MB"
    )
