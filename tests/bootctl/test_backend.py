"""Which backend a configuration leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootctl.backend import NoBackend, open_backend
from bootctl.errors import BootError
from bootctl.model import MAX_TRIES
from bootctl.settings import BACKENDS, BootSettings, Layered, boot_settings
from tests.bootctl import disks
from tests.bootctl.grub_emulator import grubenv

GRUBENV = grubenv({"ORDER": "A B", "A_OK": "1"})


@pytest.fixture
def settings(tmp_path: Path) -> BootSettings:
    return boot_settings(Layered({"boot": {"grubenv": "/grubenv"}}, {}), str(tmp_path))


def code_of(settings: BootSettings) -> str:
    with pytest.raises(BootError) as caught:
        open_backend(settings)
    return caught.value.code


def test_a_named_backend_is_opened(tmp_path: Path, settings: BootSettings) -> None:
    disk = str(disks.make_disk(tmp_path / "disk.img"))
    (tmp_path / "grubenv").write_bytes(GRUBENV)
    for where in (replace(settings, image=disk), replace(settings, device=disk)):
        for name in ("gptprio", "grub"):
            backend = open_backend(replace(where, backend=name))
            assert backend.name == name
            assert backend.read().names == ("a", "b")


def test_auto_takes_a_disk_that_is_made_for_gptprio(tmp_path: Path, settings: BootSettings) -> None:
    disk = disks.make_disk(tmp_path / "disk.img")
    (tmp_path / "grubenv").write_bytes(GRUBENV)
    assert open_backend(replace(settings, image=str(disk))).name == "gptprio"


def test_auto_takes_grub_when_the_disk_is_not_made_for_gptprio(tmp_path: Path, settings: BootSettings) -> None:
    disk = disks.make_disk(tmp_path / "disk.img")
    for number in (2, 3):
        disks.run("sfdisk", "-q", "--part-type", disk, str(number), "0FC63DAF-8483-4772-8E79-3D69D8477DE4")
    (tmp_path / "grubenv").write_bytes(GRUBENV)
    assert open_backend(replace(settings, image=str(disk))).name == "grub"
    assert open_backend(settings).name == "grub"


def test_when_auto_finds_nothing_the_error_says_why(tmp_path: Path, settings: BootSettings) -> None:
    (tmp_path / "etc/updated").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text("[boot]\ntries = 2\n")
    with pytest.raises(NoBackend) as caught:
        open_backend(settings)
    assert caught.value.lines()[0] == "gptprio: the configuration, the backend gptprio needs a disk, and none is set"
    with pytest.raises(NoBackend) as caught:
        open_backend(replace(settings, device="/nonexistent"))
    lines = dict(line.split(": ", 1) for line in caught.value.lines())
    assert lines.keys() == set(BACKENDS)
    assert lines["gptprio"].startswith("disk /nonexistent, it can't")
    assert "/grubenv, there is no" in lines["grub"]


def test_the_error_itself_is_short_and_says_who_tells_the_rest(tmp_path: Path, settings: BootSettings) -> None:
    (tmp_path / "etc/updated").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text("[boot]\ntries = 2\n")
    with pytest.raises(BootError, match="'updated-bootctl doctor' says what each backend lacks") as caught:
        open_backend(settings)
    assert len(str(caught.value)) < 220


def test_where_nothing_is_configured_the_error_says_that_alone(settings: BootSettings) -> None:
    with pytest.raises(BootError, match=r"etc/updated/updated\.toml: it is not there") as caught:
        open_backend(settings)
    assert "gptprio" not in str(caught.value)


def test_the_errors_of_choosing(settings: BootSettings) -> None:
    assert code_of(settings) == "no-backend"
    assert code_of(replace(settings, backend="gptprio")) == "no-disk"
    assert code_of(replace(settings, backend="lilo")) == "unknown-backend"


def test_auto_stays_with_a_reference_that_is_damaged(tmp_path: Path, settings: BootSettings) -> None:
    (tmp_path / "grubenv").write_bytes(b"")
    assert open_backend(settings).name == "grub"


def test_each_backend_of_the_configuration_can_be_opened(settings: BootSettings) -> None:
    for name in BACKENDS:
        backend = open_backend(replace(settings, backend=name, image=str(settings.grubenv)))
        assert backend.name == name
        assert 1 <= backend.most_tries <= MAX_TRIES
