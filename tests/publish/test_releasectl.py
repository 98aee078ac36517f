"""The command, as a publisher types it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.publish.client import Client
from tests.publish.synthetic import edited, noise
from updated.core.version import Version
from updated.publish.__main__ import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def releasectl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RELEASECTL_PASSPHRASE", raising=False)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def image(tmp_path: Path) -> str:
    file = tmp_path / "rootfs.img"
    file.write_bytes(b"a system " * 50_000)
    return str(file)


STABLE = ("repository", "--keys", "keys", "--channel", "stable")


def published(releasectl: Run, image: str) -> None:
    assert releasectl("init", "repository", "--keys", "keys")[0] == 0
    assert releasectl(
        "add", "repository", "--keys", "keys", "--version", "1.0.0", "--compatible", "demo",
        "--component", f"rootfs={image}",
    )[0] == 0  # fmt: skip


def add(releasectl: Run, version: str, image: str, *options: str) -> str:
    """Publishes a release; what the command prints."""
    code, out, error = releasectl(
        "add", "repository", "--keys", "keys", "--version", version, "--compatible", "demo",
        "--component", f"rootfs={image}", *options,
    )  # fmt: skip
    assert (code, error) == (0, "")
    return out


def adding(image: str, arguments: list[str]) -> list[str]:
    """What adds a release, with `arguments` in place of those of the same names."""
    given = {"--version": "1.1.0", "--compatible": "demo", "--component": f"rootfs={image}"}
    rest = [text for option, value in given.items() if option not in arguments for text in (option, value)]
    return ["repository", "--keys", "keys", *rest, *arguments]


def test_add_says_what_was_stored_and_what_was_used_again(releasectl: Run, tmp_path: Path) -> None:
    releasectl("init", "repository", "--keys", "keys")
    image = tmp_path / "system.img"
    image.write_bytes(noise(1, 4_000_000) + bytes(1_000_000))
    assert add(releasectl, "1.0.0", str(image)) == (
        "Release 1.0.0 is published.\n  rootfs: 5.0 MB image, 4.0 MB blob, 4.0 MB of it new\n"
    )
    image.write_bytes(edited(image.read_bytes(), 3_000_000))
    assert re.fullmatch(
        r"Release 1\.1\.0 is published\.\n"
        r"  rootfs: 5\.0 MB image, 4\.0 MB blob, [012]\.\d MB of it new; patch from 1\.0\.0: \d+ bytes\n",
        add(releasectl, "1.1.0", str(image)),
    )
    assert add(releasectl, "1.1.0", str(image)) == (
        "Release 1.1.0 was published already, and its files are whole; nothing to do.\n"
    )
    image.write_bytes(edited(image.read_bytes(), 1_000_000))
    assert "patch" not in add(releasectl, "1.2.0", str(image), "--patches", "0")
    assert releasectl("verify", "repository")[0] == 0


def test_a_release_has_each_component_that_is_named_with_patches_of_its_own(releasectl: Run, tmp_path: Path) -> None:
    releasectl("init", "repository", "--keys", "keys")
    system, kernel = tmp_path / "system.img", tmp_path / "linux.efi"
    system.write_bytes(noise(1, 4_000_000))
    kernel.write_bytes(noise(2, 2_000_001))
    add(releasectl, "1.0.0", str(system), "--component", f"kernel={kernel}")
    kernel.write_bytes(edited(kernel.read_bytes(), 1_000_000))
    assert re.fullmatch(
        r"Release 1\.1\.0 is published\.\n"
        r"  rootfs: 4\.0 MB image, 4\.0 MB blob, 0 bytes of it new\n"
        r"  kernel: 2\.0 MB image, 2\.0 MB blob, [012]\.\d MB of it new; patch from 1\.0\.0: \d+ bytes\n",
        add(releasectl, "1.1.0", str(system), "--component", f"kernel={kernel}"),
    )
    assert releasectl("verify", "repository")[0] == 0
    again = releasectl(
        "add", "repository", "--keys", "keys", "--version", "1.2.0", "--compatible", "demo",
        "--component", f"kernel={kernel}", "--component", f"kernel={system}",
    )  # fmt: skip
    assert again[0] != 0
    assert "kernel" in again[2]


def test_add_warns_of_a_name_that_no_other_release_has(releasectl: Run, image: str) -> None:
    def warned(version: str, kind: str, *components: str) -> str:
        given = [text for name in components for text in ("--component", f"{name}={image}")]
        code, out, error = releasectl(
            "add", "repository", "--keys", "keys", "--version", version, "--compatible", kind, *given
        )
        assert (code, out.startswith(f"Release {version} is published.\n")) == (0, True)
        assert error == "" or error.startswith(f"releasectl: warning: release {version} ")
        return error

    releasectl("init", "repository", "--keys", "keys")
    assert warned("1.0.0", "tutorial", "rootfs") == ""
    assert warned("1.1.0", "tutorial", "rootfs") == ""
    strange = warned("1.2.0", "tutorial", "foo")
    assert "has the component foo; all others have rootfs. Nodes whose slots have no foo refuse this release" in strange
    assert "do not promote it (`releasectl recall` takes back what is promoted)" in strange
    assert strange.endswith("add the right one with another version.\n")
    assert strange.count("\n") == 1
    elsewhere = warned("1.3.0", "tut orial", "rootfs")
    assert "is for 'tut orial'; all others are for 'tutorial'. Nodes with anything else in [identity] " in elsewhere
    assert elsewhere.count("\n") == 1
    both = warned("1.4.0", "tutorail", "kernel", "rootfs")
    assert "is for 'tutorail'; all others are for 'tut orial', 'tutorial'." in both
    assert "has the component kernel; all others have foo, rootfs." in both
    assert both.count("\n") == 2
    # What is there already is not strange any more.
    assert warned("1.5.0", "tutorail", "kernel") == ""


def test_a_version_that_is_there_in_other_words_is_said_to_be_the_same(releasectl: Run, image: str) -> None:
    releasectl("init", "repository", "--keys", "keys")
    add(releasectl, "1.5", image)
    for content in (b"other", Path(image).read_bytes()):
        Path(image).write_bytes(content)
        code, out, error = releasectl("add", *adding(image, ["--version", "1.5.0"]))
        assert (code, out) == (1, "")
        assert error.startswith("releasectl: release 1.5.0: is the same version as 1.5, which is published already. ")
    assert json.loads(releasectl("status", "repository", "--json")[1])["releases"] == ["1.5"]


def test_a_terminal_gets_a_progress_bar_for_each_step(
    releasectl: Run, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(releasectl, image)
    Path(image).write_bytes(edited(Path(image).read_bytes(), 100_000))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, _, error = releasectl(
        "add", "repository", "--keys", "keys", "--version", "1.1.0", "--compatible", "demo",
        "--component", f"rootfs={image}",
    )  # fmt: skip
    assert code == 0
    assert "\rrootfs: [####################]" in error
    assert "\rrootfs, patch from 1.0.0: [####################]" in error


def test_from_an_empty_folder_to_a_node(releasectl: Run, image: str, tmp_path: Path) -> None:
    published(releasectl, image)
    promoted = releasectl(
        "promote", "repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0", "--rollout-hours", "2"
    )
    assert promoted[0] == 0
    assert promoted[1].startswith("Channel stable ships release 1.0.0 to 0 % of the nodes, 100 % by 2")
    assert releasectl("export-root", "repository", "root.json")[0] == 0
    assert releasectl("verify", "repository")[1].startswith("All is well: 8 roles, 1 releases, 1 images")
    with Client(tmp_path / "repository", (tmp_path / "root.json").read_bytes()) as client:
        assert client.channel("stable").entries[0].version == Version("1.0.0")


def test_the_command_runs_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "updated.publish", "status", str(tmp_path / "nothing")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("releasectl: the folder ")
    assert done.stderr.count("\n") == 1


def test_status_says_what_each_channel_ships_and_how_long_signatures_last(releasectl: Run, image: str) -> None:
    published(releasectl, image)
    before = releasectl("status", "repository")[1]
    assert "in no channel: 1.0.0" in before
    releasectl("promote", "repository", "--keys", "keys", "--channel", "beta", "--version", "1.0.0", "--barrier")
    releasectl("recall", "repository", "--keys", "keys", "--channel", "beta", "--version", "1.0.0", "--reason", "slow")

    text = releasectl("status", "repository")[1]
    document = json.loads(releasectl("status", "repository", "--json")[1])

    assert "recalled: slow" in text
    assert "channel stable: no release" in text
    assert document["releases"] == ["1.0.0"]
    assert document["channels"]["beta"][0] == {
        "version": "1.0.0", "share": 0.0, "next": None, "paused": False, "recalled": "slow", "replacement": None,
        "barrier": True, "deadend": None, "minimum": None, "urgent": False,
    }  # fmt: skip
    days = {role["name"]: role["days_left"] for role in document["roles"]}
    assert days["timestamp"] == pytest.approx(3, abs=0.1)
    assert days["root"] == pytest.approx(730, abs=0.1)


def test_a_rollout_in_waves_is_paused_goes_on_and_ends(releasectl: Run, image: str) -> None:
    published(releasectl, image)
    where = ("repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0")
    assert releasectl("promote", *where, "--waves", "1%,10%@24h,100%@3d")[0] == 0
    status = releasectl("status", "repository")[1]
    assert re.search(r"1\.0\.0 +1 % of the nodes, 10 % by 20\d\d-[-\dT:]+Z\n", status)
    entry = json.loads(releasectl("status", "repository", "--json")[1])["channels"]["stable"][0]
    assert (entry["share"], entry["next"]["share"], entry["paused"]) == (0.01, 0.1, False)

    ships = "Channel stable ships release 1.0.0 to"
    assert releasectl("rollout", *where, "--pause") == (0, f"{ships} 1 % of the nodes, paused.\n", "")
    assert json.loads(releasectl("status", "repository", "--json")[1])["channels"]["stable"][0]["paused"]
    assert "nothing is to come" in releasectl("rollout", *where, "--pause")[2]
    assert releasectl("rollout", *where, "--resume")[1].startswith(f"{ships} 1 % of the nodes, 10 % by ")
    assert "is not paused" in releasectl("rollout", *where, "--resume")[2]
    assert releasectl("rollout", *where, "--waves", "20%")[1].startswith(f"{ships} 20 % of the nodes, and no more")
    assert releasectl("rollout", *where, "--hours", "48")[1].startswith(f"{ships} 20 % of the nodes, 100 % by ")
    assert releasectl("rollout", *where, "--all") == (0, f"{ships} all nodes.\n", "")
    assert "all nodes\n" in releasectl("status", "repository")[1]


def test_a_release_is_called_urgent_and_no_longer_and_its_waves_stay(releasectl: Run, image: str) -> None:
    published(releasectl, image)
    where = ("repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0")
    ships = "Channel stable ships release 1.0.0 to"

    def listed() -> tuple[float, bool]:
        entry = json.loads(releasectl("status", "repository", "--json")[1])["channels"]["stable"][0]
        return entry["share"], entry["urgent"]

    assert releasectl("promote", *where, "--waves", "10%", "--urgent")[1].endswith(", urgently.\n")
    assert listed() == (0.1, True)
    assert ", urgent\n" in releasectl("status", "repository")[1]
    assert "is urgent already" in releasectl("rollout", *where, "--urgent")[2]
    assert releasectl("rollout", *where, "--waves", "20%")[0] == 0
    assert listed() == (0.2, True)
    assert releasectl("rollout", *where, "--as-usual")[1].startswith(f"{ships} 20 % of the nodes, and no more")
    assert listed() == (0.2, False)
    assert "is not urgent already" in releasectl("rollout", *where, "--as-usual")[2]
    assert releasectl("rollout", *where, "--all")[0] == 0
    assert releasectl("rollout", *where, "--urgent") == (0, f"{ships} all nodes, urgently.\n", "")
    assert listed() == (1.0, True)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--component", "rootfs=missing.img"], "No such file"),
        (["--component", "rootfs=/dev/null"], "is empty"),
        (["--notes", "missing.txt"], "Name a text file"),
    ],
)
def test_a_file_that_can_not_be_published_is_one_line_that_names_it(
    releasectl: Run, image: str, arguments: list[str], part: str
) -> None:
    published(releasectl, image)
    code, out, error = releasectl("add", *adding(image, arguments))
    assert (code, out) == (1, "")
    assert part in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["status", "keys"], ["the folder keys: is not a repository"]),
        (["init", "new", "--keys", "rootfs.img"], ["the key folder rootfs.img: is no folder"]),
        (["init", "rootfs.img/new", "--keys", "new"], ["rootfs.img/new: it would lie in a file", "another place"]),
        (["init", "new", "--keys", "new-keys", "--threshold", "root=0"], ["needs 0 of its 3 keys"]),
        (["refresh", "rootfs.img", "--keys", "keys"], ["the folder rootfs.img: is a file"]),
        (["refresh", "repository", "--keys", "nowhere"], ["no record of it in nowhere, which is not there"]),
        (["promote", *STABLE, "--version", "1.0.0", "--request", "no/asked"], ["no/asked: there is no folder "]),
        (["request", "show", "asked", "--root", "nowhere"], ["the root metadata nowhere: No such file"]),
        (["request", "show", "asked", "--root", "rootfs.img"], ["the root metadata rootfs.img: is no root metadata"]),
        (["key", "list", "--keys", "nowhere"], ["the key folder nowhere: is not there"]),
        (["bundle", "keys", "b.tar", "--channel", "stable"], ["the folder keys: is not a repository"]),
    ],
)  # fmt: skip
def test_a_wrong_path_is_one_line_that_names_it_and_nothing_is_made(
    releasectl: Run, image: str, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    published(releasectl, image)
    at = ("repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0")
    assert releasectl("promote", *at, "--request", "asked")[0] == 0
    before = sorted(os.listdir(tmp_path))
    code, out, error = releasectl(*arguments)
    assert (code, out) == (1, "")
    for part in parts:
        assert part in error
    assert error.count("\n") == 1
    assert "Errno" not in error
    assert sorted(os.listdir(tmp_path)) == before


def test_a_file_system_that_refuses_is_named(releasectl: Run, image: str, tmp_path: Path) -> None:
    published(releasectl, image)
    code, _, error = releasectl("export-root", "repository", "missing/root.json")
    assert code == 1
    assert "missing/root.json" in error
    (tmp_path / "file").write_text("")
    assert releasectl("init", "file/repository", "--keys", "other")[0] == 1


def test_promote_says_whom_it_ships_to_and_what_it_ends(releasectl: Run, image: str) -> None:
    published(releasectl, image)
    promote = ("promote", "repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0")
    ships = "Channel stable ships release 1.0.0 to"
    assert releasectl(*promote, "--waves", "10%,100%@24h")[1].startswith(f"{ships} 10 % of the nodes, 100 % by 2")
    assert releasectl(*promote)[1] == f"{ships} all nodes. That ends its rollout, which was on its way.\n"


def test_promoting_an_older_release_says_which_one_nodes_take_and_how_to_take_that_away(
    releasectl: Run, image: str
) -> None:
    published(releasectl, image)
    os.symlink("keys", "the keys")
    at = ("repository", "--keys", "the keys", "--channel", "stable", "--version")
    for version in ("1.1.0", "1.2.0"):
        add(releasectl, version, image)
    assert releasectl("promote", *at, "1.1.0")[2] == ""
    code, out, warning = releasectl("promote", *at, "1.0.0")
    assert (code, out) == (0, "Channel stable ships release 1.0.0 to all nodes.\n")
    assert warning.count("\n") == 1
    assert "ships 1.1.0 as well, and each node takes the newest that it may: 1.1.0, not 1.0.0." in warning
    recall = shlex.split(warning.split("`")[1])
    assert recall[0] == "releasectl"
    assert releasectl(*recall[1:])[0] == 0
    assert releasectl("promote", *at, "1.0.0")[2] == ""
    # Nodes below a barrier take that first, whatever is newer.
    assert releasectl("promote", *at, "1.2.0")[2] == ""
    assert releasectl("promote", *at, "1.0.0", "--barrier")[2] == ""
    # Nodes below a minimum do not take what has it.
    assert releasectl("promote", *at, "1.2.0", "--minimum", "1.1.0")[2] == ""
    assert releasectl("promote", *at, "1.0.0")[2] == ""


def test_a_damaged_release_is_not_promoted_and_adding_it_again_mends_it(
    releasectl: Run, tmp_path: Path
) -> None:
    releasectl("init", "repository", "--keys", "keys")
    image = tmp_path / "system.img"
    image.write_bytes(noise(1, 1_000_000))
    add(releasectl, "1.0.0", str(image))
    promote = ("promote", "repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0")
    files = {file: file.read_bytes() for file in (tmp_path / "repository" / "blobs").iterdir()}
    for file, whole in files.items():
        file.unlink()
        code, out, error = releasectl(*promote)
        assert (code, out, error.count("\n")) == (1, "", 1)
        assert f"release 1.0.0, rootfs: blobs/{file.name}: is missing" in error
        assert "Run `releasectl add` again" in error
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert f"blobs/{file.name}: is not as its digest says" in releasectl(*promote)[2]
        assert "channel stable: no release" in releasectl("status", "repository")[1]
        assert add(releasectl, "1.0.0", str(image)) == (
            "Release 1.0.0 was published already; what was damaged or missing of its files is made anew:\n"
            f"  rootfs: blobs/{file.name} is not as its digest says\n"
        )
        assert file.read_bytes() == whole
    assert releasectl(*promote)[0] == 0


def test_a_minimum_that_no_node_can_satisfy_is_refused(releasectl: Run, image: str) -> None:
    published(releasectl, image)
    add(releasectl, "1.1.0", image)
    promote = ("promote", "repository", "--keys", "keys", "--channel", "stable", "--version")
    for version, minimum, cause in (
        ("1.1.0", "1.1.0", "the minimum 1.1.0 of release 1.1.0: is not below 1.1.0"),
        ("1.1.0", "1.0.5", "is one that no release of the repository satisfies"),
        ("1.0.0", "0.9.0", "is one that no release of the repository satisfies"),
    ):
        code, out, error = releasectl(*promote, version, "--minimum", minimum)
        assert (code, out) == (1, "")
        assert cause in error
    assert releasectl(*promote, "1.1.0", "--minimum", "1.0.0")[0] == 0


def test_a_replacement_that_not_all_nodes_may_take_is_warned_of(releasectl: Run, image: str) -> None:
    published(releasectl, image)
    add(releasectl, "1.1.0", image)
    at = ("repository", "--keys", "keys", "--channel", "stable", "--version")
    assert releasectl("promote", *at, "1.0.0", "--waves", "10%")[0] == 0
    assert releasectl("promote", *at, "1.1.0")[0] == 0
    recall = ("recall", *at, "1.1.0", "--reason", "bad", "--replacement", "1.0.0")
    warning = releasectl(*recall)[2]
    assert "the replacement 1.0.0 is for 10 % of the nodes" in warning
    opening = warning.split("`releasectl ")[-1].removesuffix("`.\n").split()
    assert releasectl(*opening)[0] == 0
    assert releasectl(*recall)[2] == ""


def test_verify_names_the_release_and_the_file_that_is_damaged(releasectl: Run, image: str, tmp_path: Path) -> None:
    published(releasectl, image)
    for file in (tmp_path / "repository" / "blobs").iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, _, error = releasectl("verify", "repository")
        assert code == 1
        assert "release 1.0.0, rootfs: " in error
        assert f"blobs/{file.name}" in error
        file.write_bytes(whole)
    assert releasectl("verify", "repository")[0] == 0


def test_a_repository_that_may_not_be_read_is_not_said_to_be_none(
    releasectl: Run, image: str, tmp_path: Path
) -> None:
    published(releasectl, image)
    (tmp_path / "repository").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        code, _, error = releasectl("status", "repository")
    finally:
        os.seteuid(user)
        (tmp_path / "repository").chmod(0o755)
    assert code == 1
    assert "can't be read: Permission denied" in error


def test_a_full_disk_is_named_by_what_is_written_there(
    releasectl: Run, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(releasectl, image)
    assert releasectl("promote", "repository", "--keys", "keys", "--channel", "stable", "--version", "1.0.0")[0] == 0

    def full(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path)):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for arguments, place in (
        (("bundle", "repository", "my.bundle", "--channel", "stable"), "my.bundle"),
        (("mirror", "repository", "copy"), "copy"),
        (("key", "new", "fresh", "--keys", "stick"), "stick"),
        (("refresh", "repository", "--keys", "keys"), "repository"),
    ):
        assert releasectl(*arguments)[2].endswith(
            f"{place}: there is no space left. Free some space, and run this again.\n"
        )
