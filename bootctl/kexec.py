"""`python3 -m bootctl.kexec`: starts the slot that boots next by kexec, without the firmware and the loader.

The kernel is that of the slot's unified kernel image, a component that is a file. The boot reference stays as it is:
when the kernel does not come up, the next boot goes through the loader, which counts. What this program can't do as
firmware, loader and stub would do, it refuses. systemctl takes the machine down, and starts what is loaded; when this
fails, the unit (updated-kexec.service) unloads it, since a later reboot would start it, whatever boots next then.

Exit status: 0 the machine is on its way, 1 refused or failed (the reason is on standard error), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

from bootctl.active import BY_KEXEC, running_slot, words_of
from bootctl.backend import Backend, open_backend
from bootctl.errors import BootError, in_words
from bootctl.model import next_boot
from bootctl.pe import Section, sections
from bootctl.settings import KERNEL, SLOT_IN_PATH, BootSettings, ConfigError, below, boot_settings, load
from bootctl.usage import Help

LOAD_SECONDS: Final = 90
ASK_SECONDS: Final = 30
_CHUNK: Final = 1 << 20
_SLOT: Final = "updated.slot"
# Of the kernel that the loader started; the next one gets its own from kexec.
_OF_THE_LOADER: Final = ("BOOT_IMAGE", "initrd")
# They name a slot or a release too, and nothing tells what they are in the other one.
_BOUND: Final = ("rauc.slot", "root", "roothash", "usrhash", "mount.usr", "dm-mod.create")
_BOUND_PREFIX: Final = "systemd.verity_"
# What systemd-stub(7) would do with these sections can't be had from kexec.
_OF_THE_STUB: Final = (b".cmdline", b".dtb", b".dtbauto", b".efifw", b".pcrsig", b".profile")
_ELSE: Final = 'Use [updates] reboot = "reboot".'


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the kernel, let the machine go down for it, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m bootctl.kexec", formatter_class=Help,
        description="Start the slot that boots next by kexec, without the firmware and the loader.",
    )  # fmt: skip
    parser.add_argument("--root", default="/", metavar="DIR", help="work on the system below DIR")
    root: str = parser.parse_args(arguments).root
    try:
        settings = boot_settings(load(root), root)
        load_next(settings)
        _run(["systemctl", "--no-block", "kexec"], ASK_SECONDS)
    except (BootError, ConfigError) as error:
        print(f"bootctl.kexec: {error}", file=sys.stderr)
        return 1
    return 0


def load_next(settings: BootSettings) -> None:
    """Loads the kernel of the slot that boots next. Raises BootError `kexec-refused`, and as the boot reference."""
    running = running_slot(settings)
    slot = _next_slot(open_backend(settings), running)
    path = dict(settings.files).get(KERNEL, "").replace(SLOT_IN_PATH, slot)
    if not path:
        raise _refused("the configuration", f"[disk] files has no {KERNEL}")
    _check_firmware(settings.root)
    line = command_line(_text(below(settings.root, "/proc/cmdline")), running, slot)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _load(fd, path, line)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refused(path, f"it can't be read or unpacked ({error.strerror})") from error


def command_line(text: str, running: str, slot: str) -> str:
    """The kernel's command line `text` of slot `running`, for `slot`. Raises BootError `kexec-refused`."""
    words = words_of(text)
    end = words.index("--") if "--" in words else len(words)  # what follows is for init
    changed = []
    named = 0
    for word in words[:end]:
        key, _, value = word.replace('"', "").partition("=")
        if key in _BOUND or key.startswith(_BOUND_PREFIX):
            raise _refused("the kernel's command line", f"{key}= is in it, which may be another one for slot {slot}")
        if key == _SLOT:
            named += value.lower() == running
            if value.lower() != running or named > 1:
                raise _refused("the kernel's command line", f"it names slots more than once, or not slot {running}")
            changed += [f"{_SLOT}={slot}", f"{BY_KEXEC}=1"]
        elif key not in (*_OF_THE_LOADER, BY_KEXEC):
            changed.append(word)
    if not named:
        raise _refused("the kernel's command line", f"it lacks {_SLOT}={running}")
    return " ".join([*changed, *words[end:]])


def _next_slot(backend: Backend, running: str) -> str:
    if backend.name == "tryboot":
        raise _refused("the backend tryboot", "the firmware alone starts a trial")
    slot, _ = next_boot(backend.read())
    if slot is None or slot == running:
        raise _refused("the boot reference", f"it names no other slot than {running}, which runs")
    return slot


def _check_firmware(root: str) -> None:
    """The next kernel finds the firmware's variables only by the map of its memory (kexec-bzimage64.c of Linux)."""
    firmware = below(root, "/sys/firmware/efi")
    if os.path.isdir(firmware) and not os.path.isdir(os.path.join(firmware, "runtime-map")):
        cause = "it is not there, so that the next kernel would have no EFI variables"
        raise _refused(os.path.join(firmware, "runtime-map"), cause)


def _load(fd: int, path: str, line: str) -> None:
    if os.path.isdir(f"{path}.extra.d"):
        raise _refused(f"{path}.extra.d", "the stub of the kernel would hand over what lies there")
    found: dict[bytes, Section] = {}
    for section in sections(lambda offset, length: os.pread(fd, length, offset)):
        if section.name in _OF_THE_STUB or section.name in found:
            raise _refused(path, f"what its stub makes of the section {section.name.decode()} can't be had here")
        found[section.name] = section
    with tempfile.TemporaryDirectory(prefix="updated-kexec-", dir=os.environ.get("RUNTIME_DIRECTORY")) as folder:
        kernel, initrd = os.path.join(folder, "linux"), os.path.join(folder, "initrd")
        _unpack(fd, path, found, [b".linux"], kernel)
        # The stub puts microcode before the initrd.
        _unpack(fd, path, found, [name for name in (b".ucode", b".initrd") if name in found] or [b".initrd"], initrd)
        _run(
            ["kexec", "--kexec-file-syscall", "--load", kernel, f"--initrd={initrd}", f"--command-line={line}"],
            LOAD_SECONDS,
        )


def _unpack(fd: int, path: str, found: dict[bytes, Section], names: Sequence[bytes], target: str) -> None:
    with open(target, "xb") as file:
        for name in names:
            section = found.get(name)
            if section is None or not section.size:
                raise _refused(path, f"it has no section {name.decode()}: it is no unified kernel image")
            at, end = section.offset, section.offset + section.size
            while at < end:
                data = os.pread(fd, min(_CHUNK, end - at), at)
                if not data:
                    raise _refused(path, f"it ends within its section {name.decode()}")
                file.write(data)
                at += len(data)


def _run(command: Sequence[str], seconds: float) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise _refused(command[0], "there is no such program", f"Install it (package kexec-tools). {_ELSE}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _refused(" ".join(command[:2]), in_words(error)) from error
    if done.returncode:
        text = (done.stderr or done.stdout).decode(errors="replace").strip()[-300:]
        raise _refused(command[0], f"it ended with status {done.returncode} ({text})")


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except OSError as error:
        raise _refused(path, f"it can't be read ({error.strerror})") from error


def _refused(what: str, cause: str, mend: str = _ELSE) -> BootError:
    return BootError("kexec-refused", what, cause, mend)


if __name__ == "__main__":
    sys.exit(main())
