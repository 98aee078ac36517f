"""A model of systemd-boot: which entry it starts, and what it leaves in the names of the files and in the variables.

It follows src/boot/boot.c of systemd, the Boot Loader Specification and the documents BOOT_LOADER_INTERFACE and
AUTOMATIC_BOOT_ASSESSMENT, for these versions:

    239  no counters, no sort-keys; LoaderEntryOneShot and LoaderEntryDefault hold whole names
    247  counters
    252  sort-keys; patterns in the variables; the id of an entry is its file name, with its counter
    257  entries of the key `efi` are not counted
    259  the id is without the counter
    260  LoaderEntryPreferred, which passes over what is bad

Its code shares nothing with bootctl, so that a mistake there does not cancel itself out here.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
VERSIONS = (239, 247, 252, 257, 259, 260)


def set_variable(folder: Path, name: str, value: str | bytes, attributes: int = 7) -> None:
    data = value if isinstance(value, bytes) else (value + "\0").encode("utf-16-le")
    (folder / f"{name}-{GUID}").write_bytes(struct.pack("<I", attributes) + data)


def get_variable(folder: Path, name: str) -> str | None:
    path = folder / f"{name}-{GUID}"
    return path.read_bytes()[4:].decode("utf-16-le").rstrip("\0") if path.exists() else None


def unset_variable(folder: Path, name: str) -> None:
    (folder / f"{name}-{GUID}").unlink(missing_ok=True)


def uki(os_release: str, command_line: str = "quiet") -> bytes:
    """The least that is a unified kernel image: a PE file with the sections .osrel and .cmdline."""
    sections = {b".osrel": os_release.encode(), b".cmdline": command_line.encode()}
    start = 64 + 24 + 112 + 40 * len(sections)
    headers, bodies = b"", b""
    for name, body in sections.items():
        offset = start + len(bodies)
        headers += struct.pack("<8sIIIIIIHHI", name, len(body), 0x1000 + offset, len(body), offset, 0, 0, 0, 0, 0x40)
        bodies += body
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 112, 0x22)
    optional = struct.pack("<H", 0x20B).ljust(112, b"\0")
    return dos + coff + optional + headers + bodies


# The tools want their partition to be the root of a mount, and look for a container outside of this root.
_ROOM = """
set -e
root=$1 esp=$2 efivars=$3; shift 3
mount -t tmpfs tmpfs "$root"
mkdir -p "$root/usr" "$root/proc" "$root/esp" "$root/sys/firmware/efi/efivars"
for name in bin lib lib64 sbin; do if [ -L "/$name" ]; then cp -P "/$name" "$root/$name"; fi; done
mount --rbind /usr "$root/usr"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/esp"
cp -r "$esp/." "$root/esp"
cp -r "$efivars/." "$root/sys/firmware/efi/efivars"
chroot "$root" "$@"
find "$esp" -mindepth 1 -delete
cp -r "$root/esp/." "$esp"
"""


def systemd(esp: Path, efivars: Path, *command: str) -> str:
    """Run a tool of systemd on the partition /esp, and return what it prints."""
    # Root needs no user namespace, which can't be had within a chroot.
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    with tempfile.TemporaryDirectory() as root:
        done = subprocess.run(
            ["unshare", *rights, "--mount", "sh", "-c", _ROOM, "sh", root, esp, efivars, *command],
            capture_output=True, text=True, check=False, timeout=30,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_RELAX_ESP_CHECKS": "1", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def bootctl_list(esp: Path, efivars: Path) -> list[dict[str, Any]]:
    """The entries as systemd's own bootctl sees them, the first one first."""
    text = systemd(esp, efivars, "bootctl", "--esp-path=/esp", "list", "--json=short")
    # One object a line; an array from systemd 254 on.
    found = [json.loads(line) for line in text.splitlines()]
    return [entry for each in found for entry in (each if isinstance(each, list) else [each])]


def bootctl_default(esp: Path, efivars: Path) -> str | None:
    """The id of the entry that boots next, as systemd's own bootctl sees it."""
    text = systemd(esp, efivars, "bootctl", "--esp-path=/esp", "--no-pager", "list")
    found = re.search(r"title: .*\(default\).*\n\s*id: (\S+)", text)
    return found[1] if found else None


def bless(esp: Path, efivars: Path, verb: str) -> str:
    """Let systemd-bless-boot mark the entry that LoaderBootCountPath names, or say what it is."""
    return systemd(esp, efivars, "/usr/lib/systemd/systemd-bless-boot", "--path=/esp", verb).strip()


@dataclass(slots=True)
class _Entry:
    folder: str
    file: str
    values: dict[str, str]
    kind: str
    left: int | None = None
    done: int = 0
    id: str = ""

    @property
    def sort_key(self) -> str | None:
        return self.values.get("sort-key")


@dataclass(frozen=True, slots=True)
class Loader:
    """systemd-boot of that version on the partition mounted at `esp`; `efivars` is a folder as efivarfs shows it."""

    esp: Path
    efivars: Path
    version: int = 252

    def tell_features(self) -> None:
        """What it tells the running system about itself."""
        features = 0b1111 | (self.version >= 240) << 4 | (self.version >= 251) << 8
        set_variable(self.efivars, "LoaderFeatures", struct.pack("<Q", features), attributes=6)
        set_variable(self.efivars, "LoaderInfo", f"systemd-boot {self.version}", attributes=6)

    def order(self) -> list[str]:
        """The names of all files that it sees, the first one first."""
        return [entry.file for entry in self._entries()]

    def boot(self) -> str | None:
        """Start an entry, and return the name that its file had; None when there is nothing to start."""
        self.tell_features()
        for volatile in ("LoaderBootCountPath", "LoaderEntrySelected"):
            unset_variable(self.efivars, volatile)
        entries = self._entries()
        chosen = self._chosen(entries)
        if chosen is None:
            return None
        self._count(chosen)
        set_variable(self.efivars, "LoaderEntrySelected", chosen.id, attributes=6)
        return chosen.file

    def boots(self, slot_of: str = r"updated-(\w+?)(?:\+.*)?\.(?:conf|efi)") -> str | None:
        """Start an entry, and return its slot."""
        file = self.boot()
        found = re.fullmatch(slot_of, file or "", re.IGNORECASE)
        return found[1].lower() if found else None

    def _chosen(self, entries: list[_Entry]) -> _Entry | None:
        configured = dict(_lines(self.esp / "loader" / "loader.conf", " \t"))
        once = get_variable(self.efivars, "LoaderEntryOneShot")
        unset_variable(self.efivars, "LoaderEntryOneShot")
        preferred: list[str | None] = []
        if self.version >= 260:
            preferred = [get_variable(self.efivars, "LoaderEntryPreferred"), configured.get("preferred")]
        default = [get_variable(self.efivars, "LoaderEntryDefault"), configured.get("default")]
        wishes = [(once, False), *((wish, True) for wish in preferred), *((wish, False) for wish in default)]
        for wanted, skips_bad in wishes:
            value = get_variable(self.efivars, "LoaderEntryLastBooted") if wanted == "@saved" else wanted
            for entry in entries:
                if self._means(value, entry) and not (skips_bad and entry.left == 0):
                    return entry
        return entries[0] if entries else None

    def _means(self, pattern: str | None, entry: _Entry) -> bool:
        if pattern is None:
            return False
        if self.version < 250:
            return pattern.lower() == entry.id
        return fnmatch.fnmatchcase(entry.id, pattern.lower())

    def _count(self, entry: _Entry) -> None:
        """Rename the file before it is started; a failure is passed over."""
        if entry.left is None or (entry.kind == "efi" and self.version >= 257):
            return
        stem, suffix = re.fullmatch(r"(.*)\+.*(\..*)", entry.file).groups()  # type: ignore[union-attr]
        new = f"{stem}+{max(0, entry.left - 1)}-{entry.done + 1}{suffix}"
        folder = self.esp / entry.folder
        if any(name.lower() == new.lower() for name in os.listdir(folder)):
            return
        (folder / entry.file).rename(folder / new)
        path = "\\" + entry.folder.replace("/", "\\") + "\\" + new
        set_variable(self.efivars, "LoaderBootCountPath", path, attributes=6)

    def _entries(self) -> list[_Entry]:
        entries = [*self._read("loader/entries", ".conf"), *self._read("EFI/Linux", ".efi")]
        return sorted(entries, key=functools.cmp_to_key(self._compare))

    def _read(self, folder: str, suffix: str) -> Iterator[_Entry]:
        path = self.esp / folder
        for file in sorted(os.listdir(path)) if path.is_dir() else []:
            lower = file.lower()
            if lower.startswith((".", "auto-")) or not lower.endswith(suffix) or not (path / file).is_file():
                continue
            entry = self._conf(folder, file) if suffix == ".conf" else self._uki(folder, file)
            if entry is not None:
                self._parse_counter(entry, suffix)
                yield entry

    def _conf(self, folder: str, file: str) -> _Entry | None:
        values = dict(_lines(self.esp / folder / file, " \t"))
        kinds = [kind for kind in ("linux", "efi", "uki") if kind in values]
        if len(kinds) != 1 or (kinds == ["uki"] and self.version < 257):
            return None
        program = self.esp / values[kinds[0]].replace("\\", "/").lstrip("/")
        return _Entry(folder, file, values, kinds[0]) if program.is_file() else None

    def _uki(self, folder: str, file: str) -> _Entry | None:
        data = (self.esp / folder / file).read_bytes()
        try:
            pe = struct.unpack_from("<I", data, 60)[0]
            if data[:2] != b"MZ" or data[pe : pe + 4] != b"PE\0\0":
                return None
            table = pe + 24 + struct.unpack_from("<H", data, pe + 20)[0]
            for number in range(struct.unpack_from("<H", data, pe + 6)[0]):
                name, size, _, _, offset = struct.unpack_from("<8sIIII", data, table + 40 * number)
                if name == b".osrel\0\0":
                    return _described(folder, file, data[offset : offset + size])
        except struct.error:
            pass
        return None

    def _parse_counter(self, entry: _Entry, suffix: str) -> None:
        entry.id = entry.file.lower()
        _, plus, tail = entry.file.rpartition("+")
        counter = re.fullmatch(r"(\d+)(?:-(\d+))?", tail[: -len(suffix)], re.ASCII)
        if plus and counter and self.version >= 240:
            entry.left, entry.done = int(counter[1]), int(counter[2] or 0)
            if self.version >= 259:
                entry.id = entry.file.lower().rpartition("+")[0] + suffix

    def _compare(self, a: _Entry, b: _Entry) -> int:
        if (a.left == 0) != (b.left == 0):
            return 1 if a.left == 0 else -1
        if self.version >= 251:
            if (a.sort_key is None) != (b.sort_key is None):
                return 1 if a.sort_key is None else -1
            if a.sort_key is not None and b.sort_key is not None:
                one = (a.sort_key, a.values.get("machine-id", ""))
                two = (b.sort_key, b.values.get("machine-id", ""))
                if one != two:
                    return -1 if one < two else 1
                result = version_order(a.values.get("version", ""), b.values.get("version", ""))
                if result:
                    return -result
        result = version_order(a.id, b.id)
        if result or a.left is None or b.left is None:
            return -result
        if a.left != b.left:
            return -1 if a.left > b.left else 1
        return (a.done > b.done) - (a.done < b.done)


def _described(folder: str, file: str, os_release: bytes) -> _Entry | None:
    found = dict(_pairs(os_release, "="))
    names = [found[key] for key in ("PRETTY_NAME", "IMAGE_ID", "NAME", "ID") if key in found]
    versions = [found[key] for key in ("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID") if key in found]
    keys = [found[key] for key in ("IMAGE_ID", "ID") if key in found]
    if not names:
        return None
    values = {"version": versions[0]} if versions else {}
    return _Entry(folder, file, {**values, **({"sort-key": keys[0]} if keys else {})}, "type2")


def _lines(path: Path, separators: str) -> Iterator[tuple[str, str]]:
    return _pairs(path.read_bytes(), separators) if path.is_file() else iter(())


def _pairs(data: bytes, separators: str) -> Iterator[tuple[str, str]]:
    for line in re.split("[\r\n]", data.partition(b"\0")[0].decode(errors="surrogateescape")):
        found = re.fullmatch(rf"[ \t]*([^{separators}#][^{separators}]*)[{separators}]+(.*?)[ \t]*", line)
        if found:
            value = found[2]
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            yield found[1], value


def version_order(a: str, b: str) -> int:
    """-1, 0 or 1 as `a` is older, the same or newer; the rules of the UAPI Group's Version Format Specification."""
    drop = re.compile(r"[^0-9A-Za-z~^.-]*")
    while True:
        a, b = drop.sub("", a, count=1), drop.sub("", b, count=1)
        if a.startswith("~") != b.startswith("~"):
            return -1 if a.startswith("~") else 1
        if a.startswith("~"):
            a, b = a[1:], b[1:]
        if not a or not b:
            return (a != "") - (b != "")
        for mark in ("-", "^", "."):
            if a.startswith(mark) != b.startswith(mark):
                return -1 if a.startswith(mark) else 1
            if a.startswith(mark):
                a, b = a[1:], b[1:]
        kind = "[0-9]*" if a[:1].isdigit() or b[:1].isdigit() else "[A-Za-z]*"
        one, two = re.match(kind, a)[0], re.match(kind, b)[0]  # type: ignore[index]
        a, b = a[len(one) :], b[len(two) :]
        if kind == "[0-9]*":
            if not one or not two:
                return 1 if one else -1
            if int(one) != int(two):
                return 1 if int(one) > int(two) else -1
        elif one != two:
            return 1 if one > two else -1
