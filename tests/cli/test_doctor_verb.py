"""`updatectl doctor` on a disk that was laid out, with the real partition table; and the status from it alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bootctl.backend import open_backend
from bootctl.model import confirm
from bootctl.settings import BACKENDS, boot_settings, load
from tests.cli.schema import misfits
from updated.cli import exits
from updated.cli.__main__ import main
from updated.core.errors import UpdatedError
from updated.core.status import fault_document
from updated.daemon import only_one

CONFIG = """\
[identity]
compatible = "box"
[updates]
reboot_command = ["true"]
start_command = ["true"]
[disk]
image = "/disk.img"
"""
ROOT_METADATA = {"signatures": [], "signed": {"_type": "root", "version": 3, "expires": "2100-01-01T00:00:00Z"}}


@pytest.fixture
def root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A node with slot a confirmed and running, and a health check; its daemon ran before this start."""
    words = ["provision", str(tmp_path / "disk.img"), "--slot-size", "4M", "--state-size", "4M", "--json"]
    assert main(words) == exits.DONE
    assert not misfits("provision", json.loads(capsys.readouterr().out))
    folders = ("proc/sys/kernel/random", "etc/updated/health.d/required.d", "usr/share/updated", "var/lib/updated")
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/cmdline").write_text("ro updated.slot=a\n")
    (tmp_path / "etc/updated/updated.toml").write_text(CONFIG)
    (tmp_path / "etc/updated/health.d/required.d/web.toml").write_text('type = "tcp"\nhost = "127.0.0.1"\nport = 80\n')
    (tmp_path / "usr/share/updated/root.json").write_text(json.dumps(ROOT_METADATA))
    backend = open_backend(boot_settings(load(str(tmp_path)), str(tmp_path)))
    backend.commit(confirm(backend.read(), "a", counted=0))
    with only_one(str(tmp_path)):
        return tmp_path


def findings(root: Path, capsys: pytest.CaptureFixture[str], status: int = exits.FAILED) -> list[dict[str, Any]]:
    assert main(["--root", str(root), "doctor", "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert not misfits("doctor", document)
    assert document["well"] is (status == exits.DONE)
    found: list[dict[str, Any]] = document["findings"]
    return found


def of(found: list[dict[str, Any]], check: str) -> list[tuple[str, str]]:
    return [(each["severity"], each["text"]) for each in found if each["check"] == check]


def test_a_node_whose_daemon_was_never_started_is_well_and_told_what_comes_next(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "var/lib/updated/lock").unlink()
    found = findings(root, capsys, exits.DONE)
    assert of(found, "daemon") == [("note", "it was never started")]
    assert "systemctl start updated" in next(each["mend"] for each in found if each["check"] == "daemon")
    assert not any(each["severity"] == "error" for each in found)


def test_a_node_without_a_daemon_lacks_only_that(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(root, capsys)
    errors = {each["check"] for each in found if each["severity"] == "error"}
    assert errors == {"daemon"}
    assert of(found, "slots") == [("ok", "slot a runs; rootfs-a 4.2 MB, rootfs-b 4.2 MB")]
    assert of(found, "boot-reference")[0] == ("ok", "gptprio: slot a good, slot b empty")
    assert "version 3, expires Fri 2100-01-01 01:00 CET" in of(found, "root-of-trust")[0][1]
    assert of(found, "health-checks") == [("ok", "1 to run, and none that can't be used")]


def test_every_error_and_warning_says_what_to_do(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "usr/share/updated/root.json").unlink()
    for each in findings(root, capsys):
        assert each["mend"] or each["severity"] in ("ok", "note", "skipped"), each


def test_a_damaged_second_partition_table_is_found_and_left_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (root / "disk.img").open("r+b") as disk:
        disk.seek(-512, os.SEEK_END)
        disk.write(b"x" * 512)
    before = (root / "disk.img").read_bytes()
    (damage,) = [text for severity, text in of(findings(root, capsys), "boot-reference") if severity == "error"]
    assert damage.startswith("damaged: ")
    assert (root / "disk.img").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is not there"), ("{", "is damaged"), ('{"signed": {}}', "is damaged"),
     (json.dumps({"signed": {"_type": "targets", "version": 1, "expires": "2100-01-01T00:00:00Z"}}), "and no root")],
)  # fmt: skip
def test_a_root_of_trust_that_is_none_is_an_error(
    root: Path, content: str | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "usr/share/updated/root.json"
    path.unlink() if content is None else path.write_text(content)
    ((severity, text),) = of(findings(root, capsys), "root-of-trust")
    assert severity == "error"
    assert words in text


def test_a_check_that_can_not_be_used_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/updated/health.d/required.d/web.toml").write_text('type = "nonsense"\n')
    ((severity, text),) = of(findings(root, capsys), "health-checks")
    assert severity == "error"
    assert "required.d/web.toml" in text


def test_a_command_to_reboot_that_is_not_there_is_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = CONFIG.replace('reboot_command = ["true"]', 'reboot_command = ["no-such"]')
    (root / "etc/updated/updated.toml").write_text(config)
    assert of(findings(root, capsys), "reboot") == [("error", "reboot_command: there is no program no-such")]


def test_a_kexec_that_is_asked_for_without_its_program_is_a_warning_with_the_mend(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = CONFIG.replace("[updates]\n", '[updates]\nreboot = "kexec"\n')
    asked += '[disk.files]\nkernel = "/efi/EFI/updated/{slot}.efi"\n'
    (root / "etc/updated/updated.toml").write_text(asked)
    well = ("ok", "reboots by itself: true")
    ((severity, text, mend),) = [
        (each["severity"], each["text"], each["mend"])
        for each in findings(root, capsys) if each["check"] == "reboot" and each["severity"] != "ok"
    ]  # fmt: skip
    assert (severity, text) == ("warning", "there is no program kexec: each reboot goes through the boot loader")
    assert "kexec-tools" in mend
    assert well in of(findings(root, capsys), "reboot")
    (root / "usr/sbin").mkdir()
    (root / "usr/sbin/kexec").touch(0o755)
    assert of(findings(root, capsys), "reboot") == [well]
    (root / "usr/sbin/kexec").unlink()
    (root / "etc/updated/updated.toml").write_text(CONFIG)
    assert of(findings(root, capsys), "reboot") == [well], "nobody misses it who did not ask for it"


def test_a_configuration_that_can_not_be_used_is_one_error_and_the_rest_is_not_guessed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "etc/updated/updated.toml").write_text("[nonsense]\n")
    found = findings(root, capsys)
    assert of(found, "configuration")[0][0] == "error"
    for check in ("slots", "reboot", "boot-reference"):
        assert [severity for severity, _ in of(found, check)] == ["skipped"]


def test_a_mistake_that_was_mended_since_is_not_told_as_one_that_is_there(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "run/updated").mkdir(parents=True)
    fault = UpdatedError("bad-config", "updated.toml:7: updates.intervall", "there is no such key", "Use another one.")
    (root / "run/updated/status.json").write_text(json.dumps(fault_document(fault, 1_800_000_000)))
    mended = "could not start at Fri 2027-01-15 09:00 CET"
    assert main(["--root", str(root), "status"]) == exits.DONE
    text = capsys.readouterr().out
    assert mended in text
    assert "Use another one" not in text
    assert "Now it reads well: systemctl start updated." in text
    found = findings(root, capsys)
    assert ("error", "updated.toml:7: updates.intervall: there is no such key") in of(found, "daemon")
    assert "Now it reads well" in next(each["mend"] for each in found if "intervall" in each["text"])
    (root / "etc/updated/updated.toml").write_text("[nonsense]\n")
    assert main(["--root", str(root), "status"]) == exits.DONE
    assert "Use another one" in capsys.readouterr().out


def test_people_read_the_findings_with_a_mark_and_their_number(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(root), "doctor"]) == exits.FAILED
    lines = capsys.readouterr().out.splitlines()
    assert "✓ slots           slot a runs; rootfs-a 4.2 MB, rootfs-b 4.2 MB" in lines
    assert lines[-1] == "1 error, 1 warning."


def test_with_a_damaged_status_file_too_and_the_mend_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "run/updated").mkdir(parents=True)
    (root / "run/updated/status.json").write_bytes(b"\0" * 4096)
    assert main(["--root", str(root), "status"]) == exits.FAILED
    printed = capsys.readouterr()
    summary = "slot a runs, slot a boots next; the boot reference says so, since the status file can't be read"
    assert printed.out.splitlines() == [
        summary, "", "  ● slot a  -  good   running, boots next", "  ○ slot b  -  empty",
    ]  # fmt: skip
    assert printed.err.endswith("Restart the daemon, which writes it anew: systemctl restart updated.\n")
    assert main(["--root", str(root), "status", "--json"]) == exits.FAILED
    document = json.loads(capsys.readouterr().out)
    assert not misfits("status", document)
    assert document["error"]["code"] == "state-corrupt"


def test_where_there_is_no_boot_reference_each_backend_has_a_line_of_its_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "etc/updated/updated.toml").write_text(CONFIG.partition("[disk]")[0])
    found = of(findings(root, capsys), "boot-reference")
    assert found[0] == ("error", "the boot reference: no bootloader keeps one here")
    assert [text.partition(": ")[0] for severity, text in found if severity == "note"] == list(BACKENDS)


def test_without_any_daemon_the_status_comes_from_the_boot_reference(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(root), "status"]) == exits.NO_DAEMON
    printed = capsys.readouterr()
    assert "  ● slot a  -  good   running, boots next" in printed.out.splitlines()
    assert "systemctl start updated" in printed.err
    assert main(["--root", str(root), "status", "--json"]) == exits.NO_DAEMON
    document = json.loads(capsys.readouterr().out)
    assert not misfits("status", document)
    assert document["alive"] is False
