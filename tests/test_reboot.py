"""The command that reboots the machine: what it is given, and what comes of it when it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from updated.core.errors import UpdatedError
from updated.reboot import ask_for_reboot


def given(folder: Path, argument: str) -> list[str]:
    """The words that the command is called with."""
    command = folder / "command"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$0.words"\n')
    command.chmod(0o755)
    asyncio.run(ask_for_reboot([str(command), "reboot"], argument))
    return (folder / "command.words").read_text().splitlines()


def test_what_the_firmware_needs_is_one_word_as_systemctl_takes_it(tmp_path: Path) -> None:
    assert given(tmp_path, "0 tryboot") == ["reboot", "--reboot-argument=0 tryboot"]


def test_without_anything_for_the_firmware_the_command_is_as_configured(tmp_path: Path) -> None:
    assert given(tmp_path, "") == ["reboot"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/systemctl", "reboot"], "No such file or directory"),
        (["sh", "-c", "echo not allowed >&2; exit 4"], "ended with status 4 (not allowed)"),
    ],
)
def test_a_command_that_fails_is_named_with_its_cause(command: list[str], words: str) -> None:
    with pytest.raises(UpdatedError) as caught:
        asyncio.run(ask_for_reboot(command))
    assert caught.value.code == "reboot-failed"
    assert command[0] in caught.value.what
    assert words in caught.value.cause
