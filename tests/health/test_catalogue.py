import os
from pathlib import Path

import pytest

from health.catalogue import load_checks
from health.check import Check, InvalidProbe
from health.probes.programs import ExecProbe
from health.probes.units import UnitProbe
from tests.health.conftest import Put

VENDOR = "usr/lib/updated/health.d"
ETC = "etc/updated/health.d"


def unit(name: str) -> str:
    return f'type = "unit"\nunit = "{name}.service"\n'


def names(checks: tuple[Check, ...]) -> list[tuple[str, str]]:
    return [(check.kind, check.name) for check in checks]


def fault(root: Path) -> str:
    """The error of the only check."""
    (check,) = load_checks(str(root))
    assert isinstance(check.probe, InvalidProbe)
    return check.probe.error


def test_a_system_without_check_folders_has_no_checks(tmp_path: Path) -> None:
    assert load_checks(str(tmp_path)) == ()


def test_required_checks_come_first_and_each_kind_in_order_of_file_name(tmp_path: Path, put: Put) -> None:
    for path in (f"{ETC}/wanted.d/a.toml", f"{VENDOR}/required.d/c.toml", f"{ETC}/required.d/b.toml"):
        put(path, unit("x"))
    put(f"{ETC}/required.d/B.toml", unit("x"))
    assert names(load_checks(str(tmp_path))) == [
        ("required", "B"),
        ("required", "b"),
        ("required", "c"),
        ("wanted", "a"),
    ]


def test_the_administrators_file_replaces_the_vendors_of_the_same_name(tmp_path: Path, put: Put) -> None:
    put(f"{VENDOR}/required.d/web.toml", unit("vendor"))
    put(f"{ETC}/required.d/web.toml", unit("admin"))
    (check,) = load_checks(str(tmp_path))
    assert check.probe == UnitProbe("admin.service")


def test_an_empty_file_of_the_administrator_masks_the_vendors(tmp_path: Path, put: Put) -> None:
    put(f"{VENDOR}/required.d/web.toml", unit("x"))
    put(f"{ETC}/required.d/web.toml")
    assert load_checks(str(tmp_path)) == ()


def test_a_link_to_dev_null_masks_the_vendors_check(tmp_path: Path, put: Put) -> None:
    put(f"{VENDOR}/required.d/web", "#!/bin/sh\n", mode=0o755)
    folder = tmp_path / ETC / "required.d"
    folder.mkdir(parents=True)
    (folder / "web").symlink_to("/dev/null")
    assert load_checks(str(tmp_path)) == ()


def test_an_empty_file_of_the_vendor_is_damage_and_no_mask(tmp_path: Path, put: Put) -> None:
    put(f"{VENDOR}/required.d/web.toml")
    assert "there is no type" in fault(tmp_path)


def test_a_mask_hides_only_the_check_of_its_own_kind(tmp_path: Path, put: Put) -> None:
    put(f"{VENDOR}/required.d/web.toml", unit("x"))
    put(f"{VENDOR}/wanted.d/web.toml", unit("x"))
    put(f"{ETC}/required.d/web.toml")
    assert names(load_checks(str(tmp_path))) == [("wanted", "web")]


def test_an_executable_is_run_with_the_argument_check(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/wanted.d/disk.sh", "#!/bin/sh\n", mode=0o755)
    (check,) = load_checks(str(tmp_path))
    assert (check.name, check.probe) == ("disk", ExecProbe((f"/{ETC}/wanted.d/disk.sh", "check")))


def test_an_absolute_link_to_a_program_is_followed_inside_the_root(tmp_path: Path, put: Put) -> None:
    put("usr/libexec/probe", "#!/bin/sh\n", mode=0o755)
    folder = tmp_path / ETC / "required.d"
    folder.mkdir(parents=True)
    (folder / "probe").symlink_to("/usr/libexec/probe")
    (check,) = load_checks(str(tmp_path))
    assert check.probe == ExecProbe((f"/{ETC}/required.d/probe", "check"))


def test_a_dangling_link_is_a_check_that_fails(tmp_path: Path) -> None:
    folder = tmp_path / ETC / "required.d"
    folder.mkdir(parents=True)
    (folder / "probe").symlink_to("/usr/libexec/gone")
    assert "it can't be read (No such file or directory)" in fault(tmp_path)


def test_a_file_of_another_ending_that_is_not_executable_is_named_with_its_mend(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/required.d/web.conf", unit("x"))
    message = fault(tmp_path)
    assert message.startswith(f"/{ETC}/required.d/web.conf: ")
    assert ".toml" in message
    assert "executable" in message


def test_a_broken_check_keeps_its_kind_so_that_a_required_one_counts(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/required.d/one.toml", "type = ")
    put(f"{ETC}/wanted.d/two.toml", "type = ")
    checks = load_checks(str(tmp_path))
    assert names(checks) == [("required", "one"), ("wanted", "two")]
    assert all(isinstance(check.probe, InvalidProbe) for check in checks)


def test_a_folder_among_the_checks_is_reported(tmp_path: Path) -> None:
    (tmp_path / ETC / "required.d/web").mkdir(parents=True)
    assert "it is not a file" in fault(tmp_path)


def test_a_fifo_among_the_checks_is_reported_and_not_read(tmp_path: Path) -> None:
    (tmp_path / ETC / "required.d").mkdir(parents=True)
    os.mkfifo(tmp_path / ETC / "required.d/web.toml")
    assert "it is not a file" in fault(tmp_path)


def test_an_oversized_check_file_is_not_read(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/required.d/web.toml", "#" * 100_000)
    assert "larger than 65536 bytes" in fault(tmp_path)


def test_a_check_folder_that_is_a_file_is_a_required_check_that_fails(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/required.d", "x")
    (check,) = load_checks(str(tmp_path))
    assert check.kind == "required"
    assert "Not a directory" in fault(tmp_path)


def test_a_check_beside_the_two_folders_is_reported_since_nothing_would_run_it(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/web.toml", unit("x"))
    message = fault(tmp_path)
    assert f"/{ETC}/web.toml" in message
    assert "required.d or wanted.d" in message


def test_names_that_begin_with_a_dot_are_no_checks(tmp_path: Path, put: Put) -> None:
    put(f"{ETC}/required.d/.web.toml.swp", "x")
    put(f"{ETC}/.gitkeep")
    assert load_checks(str(tmp_path)) == ()


@pytest.mark.parametrize("other", ["web.sh", "web"])
def test_two_checks_never_share_a_name(tmp_path: Path, put: Put, other: str) -> None:
    put(f"{ETC}/required.d/web.toml", unit("x"))
    put(f"{ETC}/required.d/{other}", "#!/bin/sh\n", mode=0o755)
    assert sorted(name for _, name in names(load_checks(str(tmp_path)))) == sorted(["web.toml", other])
