import json
from pathlib import Path

import pytest

from bootctl import durable
from health.judgement import Judgement
from health.record import Record
from health.system import boot_id, image_version, parse_os_release, write_verdict
from tests.health.conftest import Put

HEALTHY = Record("a", "1.0", "id", Judgement("healthy"), "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", ())
SICK = Record("a", "1.0", "id", Judgement("sick", "why"), "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", ())


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("IMAGE_VERSION=1.2.0\nVERSION_ID=12\n", "1.2.0"),
        ('VERSION_ID="12"\nIMAGE_VERSION=""\n', "12"),
        ("IMAGE_VERSION='1.2 beta'\n", "1.2 beta"),
        ('# IMAGE_VERSION=9\nIMAGE_VERSION="unclosed\n', None),
        ("", None),
    ],
)
def test_the_version_is_that_of_the_image_else_that_of_the_system(
    tmp_path: Path, put: Put, text: str, version: str | None
) -> None:
    put("etc/os-release", text)
    assert image_version(str(tmp_path)) == version


def test_os_release_of_usr_is_read_when_etc_has_none(tmp_path: Path, put: Put) -> None:
    put("usr/lib/os-release", "IMAGE_VERSION=3")
    assert image_version(str(tmp_path)) == "3"


def test_this_machines_os_release_is_read_as_a_shell_reads_it() -> None:
    assert parse_os_release('A="b\\"c"\nD=e\n') == {"A": 'b"c', "D": "e"}


def test_the_boot_id_is_the_kernels() -> None:
    assert boot_id("/") == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_the_boot_id_of_a_root_without_proc_is_the_kernels(tmp_path: Path, put: Put) -> None:
    assert boot_id(str(tmp_path)) == boot_id("/")
    put("proc/sys/kernel/random/boot_id", "its own\n")
    assert boot_id(str(tmp_path)) == "its own"


def test_the_verdict_is_written_twice_and_readable_by_all(tmp_path: Path) -> None:
    assert write_verdict(str(tmp_path), SICK) == []
    verdict = tmp_path / "var/lib/updated/health/verdict.json"
    assert json.loads(verdict.read_text()) == SICK.document
    assert (tmp_path / "run/updated/health.json").read_bytes() == verdict.read_bytes()
    assert verdict.stat().st_mode & 0o777 == 0o644


def test_each_new_folder_is_durable_before_the_verdict_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = durable.sync_directory

    def spy(path: str) -> None:
        synced.append(str(path))
        sync(path)

    monkeypatch.setattr(durable, "sync_directory", spy)
    write_verdict(str(tmp_path), SICK)
    folders = ["", "/var", "/var/lib", "/var/lib/updated", "/var/lib/updated/health"]
    assert synced[: len(folders)] == [f"{tmp_path}{folder}" for folder in folders]


def test_the_message_of_the_day_goes_when_the_slot_is_well_again(tmp_path: Path) -> None:
    message = tmp_path / "run/motd.d/updated-health"
    write_verdict(str(tmp_path), SICK)
    assert "why" in message.read_text()
    write_verdict(str(tmp_path), HEALTHY)
    assert not message.exists()


def test_a_link_in_the_image_does_not_let_the_verdict_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "var").symlink_to("/state/var")
    assert write_verdict(str(root), SICK) == []
    assert (root / "state/var/lib/updated/health/verdict.json").exists()


def test_what_can_not_be_written_is_told_and_the_rest_is_written(tmp_path: Path, put: Put) -> None:
    put("var/lib/updated/health", "in the way")
    (problem,) = write_verdict(str(tmp_path), SICK)
    assert problem.startswith("/var/lib/updated/health/verdict.json: it can't be written (")
    assert (tmp_path / "run/updated/health.json").exists()
    assert (tmp_path / "run/motd.d/updated-health").exists()
