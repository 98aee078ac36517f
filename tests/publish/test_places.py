"""What the command writes never takes the place of something else, and never gets into a repository or a key folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.publish.conftest import Desk
from updated.publish.__main__ import main


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command says, which must refuse, on one line."""
    assert main([str(each) for each in arguments]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    return said.err


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def shipped(desk: Desk) -> Desk:
    desk.add("1.0.0")
    desk.promote("stable", "1.0.0")
    return desk


def test_a_bundle_overwrites_nothing_but_a_bundle(
    shipped: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, image = tmp_path / "stable.bundle", next(shipped.images.iterdir())
    before = contents(tmp_path)
    for file, cause in (
        (shipped.path / "metadata" / "timestamp.json", "lies inside of the repository"),
        (shipped.path / "new.bundle", "lies inside of the repository"),
        (tmp_path / "keys" / "root-1.pem", "lies inside of the key folder"),
        (tmp_path / "keys" / "new.bundle", "lies inside of the key folder"),
        (image, "is there already, and is no bundle"),
        (shipped.images, "is there already, and is no bundle"),
    ):
        assert cause in refusal(capsys, "bundle", shipped.path, file, "--channel", "stable")
    assert contents(tmp_path) == before
    for _ in range(2):
        assert main(["bundle", str(shipped.path), str(bundle), "--channel", "stable"]) == 0


def test_a_root_overwrites_nothing_but_a_root(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(tmp_path)
    assert "is no root of trust" in refusal(capsys, "export-root", desk.path, tmp_path / "keys" / "root-1.json")
    assert "lies inside of the repository" in refusal(capsys, "export-root", desk.path, desk.path / "root.json")
    assert contents(tmp_path) == before
    exported = tmp_path / "root.json"
    assert main(["export-root", str(desk.path), str(exported)]) == 0
    desk.key("fresh")
    desk.rotate("root", "root-1", "fresh")
    assert main(["export-root", str(desk.path), str(exported)]) == 0
    assert exported.read_bytes() == (desk.path / "metadata" / "2.root.json").read_bytes()


def test_a_mirror_goes_into_no_folder_that_is_something_else(
    shipped: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path)
    for destination, cause in (
        (tmp_path / "keys", "lies inside of the key folder"),
        (shipped.path / "sub", "lies inside of the repository"),
        (shipped.path, "would hold its own source"),
        (tmp_path, "would hold its own source"),
        (shipped.images, "is a folder with something else in it, such as 1.0.0-rootfs.img"),
    ):
        for source in (shipped.path, f"file://{shipped.path}", f"file://localhost{shipped.path}"):
            assert cause in refusal(capsys, "mirror", source, destination)
    assert contents(tmp_path) == before
    assert not (shipped.path / "sub").exists()


def test_a_mirror_goes_on_in_one_that_was_interrupted_at_its_beginning(shipped: Desk, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "blobs").mkdir(parents=True)
    for _ in range(2):
        assert main(["mirror", str(shipped.path), str(mirror)]) == 0
    shutil.rmtree(shipped.path)
    assert main(["verify", str(mirror)]) == 0
