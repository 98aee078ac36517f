"""EFI variables as files: the format, judged by efibootmgr, and what may go wrong with them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl import durable, efivars
from bootctl.efivars import GLOBAL_GUID, LOADER_GUID, NON_VOLATILE, EfiVariables, Variable, decode_text, encode_text
from bootctl.errors import BootError

BOOT_NEXT = f"BootNext-{GLOBAL_GUID}"
IMMUTABLE = 0x10


def efibootmgr(folder: Path, *options: str) -> str:
    environment = {**os.environ, "EFIVARFS_PATH": f"{folder}/", "LIBEFIVAR_OPS": "efivarfs", "LC_ALL": "C"}
    command = ["efibootmgr", *options]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=30).stdout


def set_boot_order(folder: Path, order: str) -> None:
    """As a machine without BootOrder: in an ordinary folder efibootmgr leaves the end of a longer one."""
    efibootmgr(folder, "-O")
    efibootmgr(folder, "-o", order)


def code_of(error: pytest.ExceptionInfo[BootError]) -> str:
    return error.value.code


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def variables(tmp_path: Path) -> EfiVariables:
    return EfiVariables(str(tmp_path))


@pytest.fixture
def on_efivarfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: efivars.EFIVARFS_MAGIC)


def test_a_variable_is_its_attributes_in_four_bytes_and_its_data(tmp_path: Path, variables: EfiVariables) -> None:
    variables.write("LoaderEntryOneShot", LOADER_GUID, b"data", attributes=0x0102)
    assert (tmp_path / f"LoaderEntryOneShot-{LOADER_GUID}").read_bytes() == b"\x02\x01\0\0data"
    assert variables.read("LoaderEntryOneShot", LOADER_GUID) == Variable(0x0102, b"data")


def test_what_efibootmgr_writes_we_read_and_it_shows_what_we_write(tmp_path: Path, variables: EfiVariables) -> None:
    variables.write("Boot0001", GLOBAL_GUID, b"\1\0\0\0\4\0" + encode_text("x") + b"\x7f\xff\4\0")
    efibootmgr(tmp_path, "-n", "0001")
    assert variables.read("BootNext", GLOBAL_GUID) == Variable(NON_VOLATILE, b"\1\0")
    variables.write("BootNext", GLOBAL_GUID, b"\xcd\xab")
    assert "BootNext: ABCD" in efibootmgr(tmp_path)
    variables.delete("BootNext", GLOBAL_GUID)
    assert "BootNext" not in efibootmgr(tmp_path)


def test_a_variable_that_is_not_there_is_none(variables: EfiVariables) -> None:
    assert variables.read("BootNext", GLOBAL_GUID) is None


def test_what_is_the_same_is_not_written_again(variables: EfiVariables, monkeypatch: pytest.MonkeyPatch) -> None:
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    monkeypatch.setattr(durable, "write_file", fail)
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    for data, attributes in ((b"\2\0", 7), (b"\1\0", 3)):
        with pytest.raises(BootError):
            variables.write("BootNext", GLOBAL_GUID, data, attributes)


def test_a_variable_is_replaced_as_a_whole_in_an_ordinary_folder(tmp_path: Path, variables: EfiVariables) -> None:
    for data in (b"a long text", b"x"):
        variables.write("BootNext", GLOBAL_GUID, data)
        assert os.listdir(tmp_path) == [BOOT_NEXT]
        assert variables.read("BootNext", GLOBAL_GUID) == Variable(7, data)


@pytest.mark.usefixtures("on_efivarfs")
def test_efivarfs_gets_one_write_and_nothing_that_it_does_not_know(
    tmp_path: Path, variables: EfiVariables, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = os.write

    def noted(fd: int, data: bytes) -> int:
        written.append(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", noted)
    for unknown in ("fsync", "rename", "ftruncate", "pwrite"):
        monkeypatch.setattr(os, unknown, fail)
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    inode = (tmp_path / BOOT_NEXT).stat().st_ino
    variables.write("BootNext", GLOBAL_GUID, b"\2\0")
    assert written == [b"\7\0\0\0\1\0", b"\7\0\0\0\2\0"]
    assert (tmp_path / BOOT_NEXT).stat().st_ino == inode
    assert os.listdir(tmp_path) == [BOOT_NEXT]


@pytest.mark.usefixtures("on_efivarfs")
def test_what_the_firmware_refuses_leaves_the_old_variable_or_none(
    tmp_path: Path, variables: EfiVariables, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    monkeypatch.setattr(os, "write", fail)
    for name in ("BootNext", "BootOrder"):
        with pytest.raises(BootError, match="No space left on device") as caught:
            variables.write(name, GLOBAL_GUID, b"\2\0")
        assert code_of(caught) == "efi-not-writable"
    assert variables.read("BootNext", GLOBAL_GUID) == Variable(7, b"\1\0")
    assert os.listdir(tmp_path) == [BOOT_NEXT]


@pytest.mark.usefixtures("on_efivarfs")
def test_half_a_write_is_an_error(variables: EfiVariables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: len(data) - 1)
    with pytest.raises(BootError, match="Input/output error"):
        variables.write("BootNext", GLOBAL_GUID, b"\1\0")


@pytest.mark.parametrize("broken", ["nothing", "the write"])
@pytest.mark.parametrize("operation", ["write", "delete"])
def test_the_immutable_flag_is_lifted_for_the_change_alone(
    tmp_path: Path, variables: EfiVariables, monkeypatch: pytest.MonkeyPatch, operation: str, broken: str
) -> None:
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    seen: list[object] = []
    flags = [IMMUTABLE | 0x80000]

    def ioctl(fd: int, number: int, argument: Any) -> int:
        assert os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / BOOT_NEXT)
        if number == efivars._GET_FLAGS:
            struct.pack_into("I", argument, 0, flags[0])
        else:
            assert number == efivars._SET_FLAGS
            flags[0] = struct.unpack("I", argument)[0]
            seen.append(flags[0])
        return 0

    def change(name: str) -> Any:
        real = getattr(durable, name)

        def changed(*arguments: Any) -> None:
            seen.append("changed")
            if broken == "the write":
                fail()
            real(*arguments)

        return changed

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    for name in ("write_file", "remove"):
        monkeypatch.setattr(durable, name, change(name))
    expected: list[object] = [0x80000, "changed", IMMUTABLE | 0x80000]
    if broken == "the write":
        with pytest.raises(BootError):
            _change(variables, operation)
    else:
        _change(variables, operation)
        if operation == "delete":
            expected.pop()  # there is no file any more
    assert seen == expected


def _change(variables: EfiVariables, operation: str) -> None:
    if operation == "write":
        variables.write("BootNext", GLOBAL_GUID, b"\2\0")
    else:
        variables.delete("BootNext", GLOBAL_GUID)


def test_the_calls_for_flags_have_the_numbers_of_the_kernel() -> None:
    wide = struct.calcsize("l") == 8
    assert [efivars._GET_FLAGS, efivars._SET_FLAGS] == [0x80086601, 0x40086602] if wide else [0x80046601, 0x40046602]


def test_an_immutable_file_is_changed_and_is_immutable_again(tmp_path: Path, variables: EfiVariables) -> None:
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    path = str(tmp_path / BOOT_NEXT)
    try:
        efivars._set_flags(path, efivars._flags(path) | IMMUTABLE)
    except OSError:
        pytest.skip("this file system, or this user, can not make a file immutable")
    try:
        variables.write("BootNext", GLOBAL_GUID, b"\2\0")
        assert efivars._flags(path) & IMMUTABLE
        assert variables.read("BootNext", GLOBAL_GUID) == Variable(7, b"\2\0")
        variables.delete("BootNext", GLOBAL_GUID)
        assert not os.listdir(tmp_path)
    finally:
        if os.path.exists(path):
            efivars._set_flags(path, 0)


def test_a_read_that_is_interrupted_goes_on(tmp_path: Path, variables: EfiVariables) -> None:
    """efivarfs ends a read with EINTR, without any signal, when there are too many of them."""
    os.mkfifo(tmp_path / BOOT_NEXT)
    main, interrupted = threading.get_ident(), threading.Event()

    def writer() -> None:
        with open(tmp_path / BOOT_NEXT, "wb") as file:
            time.sleep(0.1)
            signal.pthread_kill(main, signal.SIGUSR1)
            interrupted.wait(10)
            file.write(b"\7\0\0\0\1\0")

    before = signal.signal(signal.SIGUSR1, lambda *_: interrupted.set())
    thread = threading.Thread(target=writer)
    try:
        thread.start()
        assert variables.read("BootNext", GLOBAL_GUID) == Variable(7, b"\1\0")
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert interrupted.is_set()


def test_a_variable_that_is_gone_can_be_deleted(tmp_path: Path, variables: EfiVariables) -> None:
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    for _ in range(2):
        variables.delete("BootNext", GLOBAL_GUID)
        assert not os.listdir(tmp_path)


def test_the_names_are_those_of_variables(tmp_path: Path, variables: EfiVariables) -> None:
    for name in ("notes", "BootNext", f"-{GLOBAL_GUID}", f".BootNext-{GLOBAL_GUID}.17.tmp", GLOBAL_GUID):
        (tmp_path / name).touch()
    variables.write("a-b", LOADER_GUID, b"x")
    variables.write("Boot0001", GLOBAL_GUID, b"x")
    assert variables.names() == [("Boot0001", GLOBAL_GUID), ("a-b", LOADER_GUID)]


def _every_call(variables: EfiVariables) -> list[Any]:
    return [
        lambda: variables.read("BootNext", GLOBAL_GUID), lambda: variables.write("BootNext", GLOBAL_GUID, b"x"),
        lambda: variables.delete("BootNext", GLOBAL_GUID), variables.names,
    ]  # fmt: skip


def test_a_missing_folder_means_that_there_is_no_such_firmware(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        for call in _every_call(EfiVariables(str(folder))):
            with pytest.raises(BootError, match="not started by EFI firmware") as caught:
                call()
            assert code_of(caught) == "efi-variables-missing"
            assert caught.value.what == str(folder)


def test_a_folder_of_sysfs_means_that_efivarfs_is_not_mounted(
    variables: EfiVariables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "filesystem_magic", lambda fd: efivars.SYSFS_MAGIC)
    for call in _every_call(variables):
        with pytest.raises(BootError, match="mount -t efivarfs") as caught:
            call()
        assert code_of(caught) == "efi-variables-missing"


def test_what_can_not_be_read_is_an_error(tmp_path: Path, variables: EfiVariables) -> None:
    (tmp_path / BOOT_NEXT).mkdir()
    with pytest.raises(BootError, match="Is a directory") as caught:
        variables.read("BootNext", GLOBAL_GUID)
    assert code_of(caught) == "efi-unreadable"
    assert caught.value.what == str(tmp_path / BOOT_NEXT)


def test_a_folder_that_can_not_be_read_is_an_error(variables: EfiVariables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listdir", fail)
    with pytest.raises(BootError) as caught:
        variables.names()
    assert code_of(caught) == "efi-unreadable"


@pytest.mark.parametrize("content", [b"", b"\7\0\0"])
def test_a_variable_without_attributes_is_corrupt_and_can_be_set_anew(
    tmp_path: Path, variables: EfiVariables, content: bytes
) -> None:
    (tmp_path / BOOT_NEXT).write_bytes(content)
    with pytest.raises(BootError, match=f"it has {len(content)} bytes") as caught:
        variables.read("BootNext", GLOBAL_GUID)
    assert code_of(caught) == "efi-corrupt"
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    assert variables.read("BootNext", GLOBAL_GUID) == Variable(7, b"\1\0")


def test_what_can_not_be_removed_is_an_error(variables: EfiVariables, monkeypatch: pytest.MonkeyPatch) -> None:
    variables.write("BootNext", GLOBAL_GUID, b"\1\0")
    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(BootError) as caught:
        variables.delete("BootNext", GLOBAL_GUID)
    assert code_of(caught) == "efi-not-writable"


@given(st.binary(max_size=32))
def test_any_content_is_a_variable_or_a_boot_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, BOOT_NEXT).write_bytes(content)
        variables = EfiVariables(folder)
        try:
            variable = variables.read("BootNext", GLOBAL_GUID)
        except BootError as error:
            assert error.code == "efi-corrupt"  # noqa: PT017
        else:
            assert variable is not None
            assert variable.attributes.to_bytes(4, "little") + variable.data == content


def test_text_is_utf_16_with_a_nul() -> None:
    assert encode_text("aß") == b"a\0\xdf\0\0\0"
    assert decode_text(b"a\0\xdf\0\0\0") == decode_text(b"a\0\xdf\0") == "aß"
    assert decode_text(b"a\0\0\0b\0\0\0") == "a\0b"
    assert decode_text(b"") == ""


@given(st.text(st.characters(codec="utf-16-le", exclude_characters="\0")))
def test_text_is_read_back(text: str) -> None:
    assert decode_text(encode_text(text)) == text


@given(st.binary(max_size=16))
def test_any_data_is_text_or_a_boot_error(data: bytes) -> None:
    try:
        text = decode_text(data)
    except BootError as error:
        assert error.code == "efi-corrupt"  # noqa: PT017
    else:
        assert encode_text(text).startswith(data)
