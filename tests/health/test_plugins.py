"""The scripts of greenboot and of openSUSE's health-checker, as those two run them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from health.catalogue import load_checks
from health.check import CheckResult, InvalidProbe
from health.plugins import parse_disabled, plugin_checks, plugin_hooks
from health.probes import Surroundings, attempt
from health.probes.programs import PluginProbe
from health.runner import run_checks
from tests.health.conftest import Put

GREEN = ("usr/lib/greenboot", "etc/greenboot")
CHECKER = ("usr/libexec/health-checker", "usr/local/libexec/health-checker")


def names(root: Path, *, greenboot: bool = True, health_checker: bool = True) -> list[tuple[str, str]]:
    checks = plugin_checks(str(root), greenboot=greenboot, health_checker=health_checker)
    return [(check.kind, check.name) for check in checks]


def run(root: Path) -> dict[str, CheckResult]:
    """Runs the scripts of a root as if it was that of this machine: their commands are taken from outside."""
    outside = []
    for check in plugin_checks(str(root), greenboot=True, health_checker=True):
        assert isinstance(check.probe, PluginProbe)
        command = tuple(f"{root}{word}" if word.startswith("/") else word for word in check.probe.command)
        outside.append((check, PluginProbe(check.probe.type, command)))
    around = Surroundings.of("/")
    checks = [replace(check, probe=probe) for check, probe in outside]
    return {result.name: result for result in run_checks(checks, lambda check: attempt(check, around))}


def test_without_their_folders_there_are_none(tmp_path: Path) -> None:
    assert names(tmp_path) == []


def test_all_scripts_of_both_folders_run_those_of_the_vendor_first_in_the_order_of_bytes(
    tmp_path: Path, put: Put
) -> None:
    for path in ("20_b.sh", "10_a.sh", "B.sh"):
        put(f"{GREEN[0]}/check/required.d/{path}")
    put(f"{GREEN[1]}/check/required.d/05_site.sh")
    put(f"{GREEN[1]}/check/wanted.d/01_nice.sh")
    put(f"{CHECKER[1]}/crio.sh", mode=0o755)
    put(f"{CHECKER[0]}/etcd", mode=0o755)
    assert names(tmp_path) == [
        ("required", "greenboot/10_a.sh"),
        ("required", "greenboot/20_b.sh"),
        ("required", "greenboot/B.sh"),
        ("required", "greenboot/05_site.sh"),
        ("wanted", "greenboot/01_nice.sh"),
        ("required", "health-checker/etcd"),
        ("required", "health-checker/crio.sh"),
    ]


def test_a_script_of_the_site_does_not_replace_that_of_the_vendor(tmp_path: Path, put: Put) -> None:
    for base in GREEN:
        put(f"{base}/check/required.d/10.sh")
    assert names(tmp_path) == [("required", f"/{base}/check/required.d/10.sh") for base in GREEN]


def test_what_greenboot_does_not_run_is_not_run(tmp_path: Path, put: Put) -> None:
    for name in ("README", "binary", ".hidden.sh", "x.sh.rpmsave"):
        put(f"{GREEN[0]}/check/required.d/{name}", mode=0o755)
    put(f"{CHECKER[0]}/.hidden", mode=0o755)
    assert names(tmp_path) == []


def test_each_can_be_switched_off(tmp_path: Path, put: Put) -> None:
    put(f"{GREEN[0]}/check/required.d/10.sh")
    put(f"{CHECKER[0]}/crio.sh", mode=0o755)
    assert names(tmp_path, greenboot=False) == [("required", "health-checker/crio.sh")]
    assert names(tmp_path, health_checker=False) == [("required", "greenboot/10.sh")]
    assert load_checks(str(tmp_path), greenboot=False, health_checker=False) == ()
    assert len(load_checks(str(tmp_path))) == 2


def test_a_script_needs_no_mark_as_executable_for_greenboot_and_fails_by_any_exit_status(
    tmp_path: Path, put: Put
) -> None:
    folder = f"{GREEN[0]}/check/required.d"
    put(f"{folder}/10.sh", 'set -euo pipefail; a=(x y); echo "${#a[@]} of bash"\n')
    put(f"{folder}/20.sh", "echo skipped elsewhere; exit 77\n")
    put(f"{folder}/30.sh", "exit 75\n")
    results = run(tmp_path)
    assert (results["greenboot/10.sh"].result, results["greenboot/10.sh"].output) == ("pass", "2 of bash\n")
    assert (results["greenboot/20.sh"].result, results["greenboot/30.sh"].result) == ("fail", "fail")


PLUGIN = """#!/bin/bash
run_checks() { [ -e "$(dirname "$0")/well" ]; test $? -ne 0 && exit 1; }
stop_services() { exit 9; }
case "$1" in
    check) run_checks ;;
    stop) stop_services ;;
    *) echo "Usage: $0 {check|stop}"; exit 1 ;;
esac
exit 0
"""


def test_a_plugin_in_the_form_of_health_checkers_template_passes_and_fails(tmp_path: Path, put: Put) -> None:
    put(f"{CHECKER[0]}/etcd.sh", PLUGIN, mode=0o755)
    assert run(tmp_path)["health-checker/etcd.sh"].result == "fail"
    put(f"{CHECKER[0]}/well", "#!/bin/sh\n", mode=0o755)
    assert {result.result for result in run(tmp_path).values()} == {"pass"}


def test_a_plugin_that_can_not_be_run_fails_as_it_does_there(tmp_path: Path, put: Put) -> None:
    put(f"{CHECKER[0]}/etcd.sh", "#!/bin/sh\n", mode=0o644)
    assert run(tmp_path)["health-checker/etcd.sh"].result == "fail"


def test_no_script_runs_beside_another(tmp_path: Path, put: Put) -> None:
    alone = 'mkdir "$(dirname "$0")/lock" || exit 1; sleep 0.05; rmdir "$(dirname "$0")/lock"\n'
    for number in range(4):
        put(f"{GREEN[0]}/check/required.d/{number}.sh", alone)
    assert {result.result for result in run(tmp_path).values()} == {"pass"}


@pytest.mark.parametrize(
    ("text", "disabled"),
    [
        ("", set()),
        ("DISABLED_HEALTHCHECKS=()\n", set()),
        ("DISABLED_HEALTHCHECKS=\n", set()),
        ("# DISABLED_HEALTHCHECKS=(a.sh)\n", set()),
        ("GREENBOOT_MAX_BOOT_ATTEMPTS=3\nDISABLED_HEALTHCHECKS=(\"a.sh\" 'b c.sh' d.sh)\n", {"a.sh", "b c.sh", "d.sh"}),
        ('DISABLED_HEALTHCHECKS=(\n  "a.sh"  # slow\n  "b.sh"\n)\n', {"a.sh", "b.sh"}),
        ("DISABLED_HEALTHCHECKS=(a.sh)\nDISABLED_HEALTHCHECKS=(b.sh)\n", {"b.sh"}),
    ],
)
def test_the_list_in_greenboots_configuration_is_read_as_bash_reads_it(text: str, disabled: set[str]) -> None:
    assert parse_disabled(text) == disabled


def test_what_greenboots_configuration_disables_does_not_run(tmp_path: Path, put: Put) -> None:
    for base in GREEN:
        put(f"{base}/check/required.d/01_dns.sh")
    put(f"{GREEN[0]}/check/wanted.d/02.sh")
    put(f"{GREEN[0]}/check/required.d/03.sh")
    put("etc/greenboot/greenboot.conf", f'DISABLED_HEALTHCHECKS=("01_dns.sh" "/{GREEN[0]}/check/wanted.d/02.sh")\n')
    assert names(tmp_path) == [("required", "greenboot/03.sh")]


@pytest.mark.parametrize("text", ['DISABLED_HEALTHCHECKS="01.sh"\n', "DISABLED_HEALTHCHECKS=('01.sh)\n"])
def test_a_list_that_can_not_be_read_disables_nothing_and_is_told(tmp_path: Path, put: Put, text: str) -> None:
    put(f"{GREEN[0]}/check/required.d/01.sh")
    put("etc/greenboot/greenboot.conf", text)
    assert names(tmp_path) == [("wanted", "greenboot.conf"), ("required", "greenboot/01.sh")]


def test_a_folder_that_can_not_be_read_is_a_check_that_fails(tmp_path: Path, put: Put) -> None:
    put(f"{GREEN[0]}/check/required.d", "in the way")
    (check,) = plugin_checks(str(tmp_path), greenboot=True, health_checker=True)
    assert check.kind == "required"
    assert isinstance(check.probe, InvalidProbe)
    assert "Not a directory" in check.probe.error


def test_the_scripts_for_after_a_good_and_a_bad_boot_are_listed_with_their_commands(tmp_path: Path, put: Put) -> None:
    put(f"{GREEN[1]}/green.d/10.sh")
    put(f"{GREEN[0]}/green.d/20.sh")
    put(f"{GREEN[0]}/red.d/99_reboot.sh")
    put(f"{CHECKER[0]}/etcd.sh", mode=0o755)
    root = str(tmp_path)
    assert plugin_hooks(root, "green") == (
        ("bash", f"/{GREEN[0]}/green.d/20.sh"),
        ("bash", f"/{GREEN[1]}/green.d/10.sh"),
    )
    assert plugin_hooks(root, "red") == (("bash", f"/{GREEN[0]}/red.d/99_reboot.sh"),)
    assert plugin_hooks(root, "stop") == ((f"/{CHECKER[0]}/etcd.sh", "stop"),)


def test_names_are_sorted_by_bytes_whatever_the_locale(tmp_path: Path, put: Put) -> None:
    for name in (b"a.sh", b"Z.sh", b"\xc3\xa4.sh"):
        put(f"{GREEN[0]}/check/required.d/{os.fsdecode(name)}")
    assert [name for _, name in names(tmp_path)] == ["greenboot/Z.sh", "greenboot/a.sh", "greenboot/ä.sh"]
