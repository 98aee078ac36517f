"""Layered TOML configuration, shared by all programs of the tree, and the settings of the boot reference.

Layers, from the lowest to the highest: the drop-ins of /usr/lib/updated/updated.toml.d, /etc/updated/updated.toml, and
the drop-ins of /etc/updated/updated.toml.d and /run/updated/updated.toml.d together. Drop-ins apply in the order of
their file names; one in a higher directory replaces that of the same name in a lower one, also when it is empty.
Tables merge key by key; every other value is replaced as a whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bootctl.errors import mend_of
from bootctl.model import DEFAULT_TRIES, MAX_TRIES
from bootctl.toml_value import toml

MAIN_FILE: Final = "/etc/updated/updated.toml"
VENDOR_FOLDER: Final = "/usr/lib/updated/updated.toml.d"
LOCAL_FOLDERS: Final = ("/etc/updated/updated.toml.d", "/run/updated/updated.toml.d")
DEFAULT_GRUBENV: Final = "/boot/grub/grubenv"
DEFAULT_COMPONENT: Final = "rootfs"
SLOT_IN_PATH: Final = "{slot}"
# Of components that are files: the unified kernel image of a slot.
KERNEL: Final = "kernel"
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SLOT: Final = re.compile(r"[a-z0-9]{1,16}")
DEFAULT_EFIVARS: Final = "/sys/firmware/efi/efivars"
DEFAULT_EFI_BACKUP: Final = "/var/lib/updated/boot/efi"
DEFAULT_FW_ENV_CONFIG: Final = "/etc/fw_env.config"
DEFAULT_AUTOBOOT: Final = "/boot/firmware/autoboot.txt"
DEFAULT_TRYBOOT_PARTITIONS: Final = (("a", 2), ("b", 3))
# Where systemd's own bootctl looks for the EFI system partition, and for what takes its place (bootctl(1)).
_ESP_FOLDERS: Final = ("/efi", "/boot", "/boot/efi")
BACKENDS: Final = ("gptprio", "uboot", "tryboot", "systemd_boot", "grub", "efi")
_BOOT_KEYS: Final = (
    "backend", "grubenv", "esp", "fw_env_config", "autoboot", "tryboot_partitions", "tries", "count_confirmed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was set. `line` counts from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class ConfigError(Exception):
    """A configuration that can't be used. `line` (from 1) and `key` ("table.key") are None where nothing has one."""

    def __init__(self, file: str, cause: str, mend: str, *, line: int | None = None, key: str | None = None) -> None:
        super().__init__(file, cause, mend, line, key)
        self.file = file
        self.line = line
        self.key = key
        self.cause = cause
        self.mend = mend

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = "" if self.key is None else f"{self.key}: "
        return f"{place}: {subject}{self.cause}. {self.mend}"


@dataclass(frozen=True, slots=True)
class Layered:
    """The merged configuration, and where each value of it comes from.

    `origins` has a key for each table and value, such as `disk` and `disk.image`; the n-th table of an array of tables
    is `name[n]`, from 0. Keys within an inline table have none of their own: `origin` finds that of the table.
    `files` are those that were read, from the lowest to the highest.
    """

    values: dict[str, Any]
    origins: Mapping[str, Origin]
    files: tuple[str, ...] = ()

    def origin(self, key: str) -> Origin | None:
        """Where `key` ("table.key") was set: its own line, or that of the nearest thing around it."""
        while key:
            if key in self.origins:
                return self.origins[key]
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return None

    def error(self, key: str, cause: str, mend: str) -> ConfigError:
        """A ConfigError that names the file and line of `key`."""
        origin = self.origin(key)
        if origin is None:
            return ConfigError(MAIN_FILE, cause, mend, key=key)
        return ConfigError(origin.file, cause, mend, line=origin.line, key=key)


@dataclass(frozen=True, slots=True)
class BootSettings:
    """Where the boot reference lies. The paths lie below `root` already: use them as they are.

    `device` and `image` are never both set. `tries` (1..15) is what an armed trial gets, and with `count_confirmed` a
    confirmed slot at each boot; `component` is the first part of the names of the slot partitions that carry the boot
    reference; `components` are the partitions that a slot has, and `files` its files: (component, path with `{slot}` in
    it). `esp` is the mount point of the EFI system partition, `efi_backup`
    the folder in which boot entries of the firmware are kept; `tryboot_partitions` are (slot, number of its boot
    partition).
    """

    root: str = "/"
    backend: str = "auto"
    device: str | None = None
    image: str | None = None
    grubenv: str = DEFAULT_GRUBENV
    esp: str = _ESP_FOLDERS[0]
    efivars: str = DEFAULT_EFIVARS
    efi_backup: str = DEFAULT_EFI_BACKUP
    fw_env_config: str = DEFAULT_FW_ENV_CONFIG
    autoboot: str = DEFAULT_AUTOBOOT
    tryboot_partitions: tuple[tuple[str, int], ...] = DEFAULT_TRYBOOT_PARTITIONS
    tries: int = DEFAULT_TRIES
    count_confirmed: bool = False
    component: str = DEFAULT_COMPONENT
    components: tuple[str, ...] = (DEFAULT_COMPONENT,)
    files: tuple[tuple[str, str], ...] = ()


def below(root: str, path: str) -> str:
    """The absolute `path` as seen from `root`; `..` can't lead out of it."""
    return os.path.normpath(os.path.join(root, os.path.normpath(os.sep + path).lstrip(os.sep)))


def load(root: str = "/") -> Layered:
    """Read and merge all files of the configuration below `root`; none of them has to be there.

    Raises ConfigError for a file that can't be read or is no TOML, and for a file of another ending among drop-ins.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    files = tuple(_files(root))
    for path in files:
        text = _read(path)
        document = _parse(path, text)
        from bootctl.toml_lines import key_lines

        lines = dict(key_lines(text))
        _merge(values, document, origins, {key: Origin(path, line) for key, line in lines.items()}, "")
    return Layered(values, origins, files)


def boot_settings(layered: Layered, root: str = "/") -> BootSettings:
    """The settings of the tables [disk] and [boot].

    Raises ConfigError for an unknown key of these two tables and for a value that can't be.
    """
    disk = table_of(layered, "disk", ("device", "image", "components", "files"))
    boot = table_of(layered, "boot", _BOOT_KEYS)
    if "device" in disk and "image" in disk:
        raise layered.error(
            "disk.image",
            f"device is set too ({layered.origin('disk.device')}), and only one of them can be the disk",
            "Remove one of the two.",
        )
    backend = boot.get("backend", "auto")
    if backend not in ("auto", *BACKENDS):
        raise layered.error(
            "boot.backend", f"{toml(backend)} is no backend", f"Use one of: auto, {', '.join(BACKENDS)}."
        )
    tries = boot.get("tries", DEFAULT_TRIES)
    if type(tries) is not int or not 1 <= tries <= MAX_TRIES:
        raise layered.error(
            "boot.tries", f"{toml(tries)} is no number of tries", f"Give a whole number from 1 to {MAX_TRIES}."
        )
    count_confirmed = boot.get("count_confirmed", False)
    if type(count_confirmed) is not bool:
        raise layered.error(
            "boot.count_confirmed", f"{toml(count_confirmed)} is neither true nor false", "Give true or false."
        )
    components = disk.get("components", [DEFAULT_COMPONENT])
    if not isinstance(components, list) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in components
    ):
        raise layered.error(
            "disk.components", f"{toml(components)} are no components", 'Give a list such as ["rootfs"].'
        )
    if DEFAULT_COMPONENT not in components or len(set(components)) != len(components):
        raise layered.error(
            "disk.components", f"{toml(components)} lacks {DEFAULT_COMPONENT} or names one twice",
            'Begin it with "rootfs".',
        )
    return BootSettings(
        root=root,
        backend=backend,
        device=_path(layered, disk, "disk", "device", root),
        image=_path(layered, disk, "disk", "image", root),
        grubenv=_path(layered, boot, "boot", "grubenv", root) or below(root, DEFAULT_GRUBENV),
        esp=_path(layered, boot, "boot", "esp", root) or _esp(root),
        efivars=below(root, DEFAULT_EFIVARS),
        efi_backup=below(root, DEFAULT_EFI_BACKUP),
        fw_env_config=_path(layered, boot, "boot", "fw_env_config", root) or below(root, DEFAULT_FW_ENV_CONFIG),
        autoboot=_path(layered, boot, "boot", "autoboot", root) or below(root, DEFAULT_AUTOBOOT),
        tryboot_partitions=_tryboot_partitions(layered, boot),
        tries=tries,
        count_confirmed=count_confirmed,
        components=tuple(components),
        files=_component_files(layered, disk, components, root),
    )


def table_of(layered: Layered, name: str, known: Sequence[str]) -> Mapping[str, Any]:
    """The table `name`, empty when it is not there. Raises ConfigError when it is none, or has a key not in `known`."""
    table = layered.values.get(name, {})
    if not isinstance(table, dict):
        raise layered.error(name, "it is no table", f"Write it as a table: [{name}].")
    for key in table:
        if key not in known:
            raise layered.error(f"{name}.{key}", "there is no such key", f"Use one of: {', '.join(known)}.")
    return table


def _path(layered: Layered, table: Mapping[str, Any], name: str, key: str, root: str) -> str | None:
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise layered.error(f"{name}.{key}", f"{toml(value)} is no absolute path", 'Give a path such as "/dev/vda".')
    return below(root, value)


def _esp(root: str) -> str:
    folders = [below(root, folder) for folder in _ESP_FOLDERS]
    return next((folder for folder in folders if os.path.isdir(os.path.join(folder, "loader"))), folders[0])


def _component_files(
    layered: Layered, disk: Mapping[str, Any], components: Sequence[str], root: str
) -> tuple[tuple[str, str], ...]:
    value = disk.get("files", {})
    if not isinstance(value, dict):
        raise layered.error(
            "disk.files", f"{toml(value)} is no table", 'Give one such as { kernel = "/efi/EFI/updated/{slot}.efi" }.'
        )
    found: dict[str, str] = {}
    for name, path in value.items():
        key = f"disk.files.{name}"
        if not _NAME.fullmatch(name):
            raise layered.error(key, f"{toml(name)} is no component", 'Name it such as "kernel".')
        if name in components:
            raise layered.error(
                key, "it is one of the components that are partitions", "Take it out of components, or out of files."
            )
        usual = os.path.normpath(path) if isinstance(path, str) else ""
        if not usual.startswith("/") or "\0" in usual or {path.count(SLOT_IN_PATH), usual.count(SLOT_IN_PATH)} != {1}:
            raise layered.error(
                key, f"{toml(path)} is no absolute path with one {SLOT_IN_PATH} in it",
                f'Give a path such as "/efi/EFI/updated/{SLOT_IN_PATH}.efi".',
            )
        if below(root, path) in found.values():
            raise layered.error(
                key, f"{toml(path)} is the path of another component too", "Give each a path of its own."
            )
        found[name] = below(root, path)
    return tuple(sorted(found.items()))


def _tryboot_partitions(layered: Layered, boot: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    value = boot.get("tryboot_partitions", dict(DEFAULT_TRYBOOT_PARTITIONS))
    if (
        not isinstance(value, dict)
        or not all(_SLOT.fullmatch(slot) for slot in value)
        or not all(type(number) is int and 1 <= number <= 255 for number in value.values())
        or not len(value) == len(set(value.values())) == 2
    ):
        raise layered.error(
            "boot.tryboot_partitions", f"{toml(value)} does not give two slots a partition each",
            "Give a table such as { a = 2, b = 3 }.",
        )
    return tuple(sorted(value.items()))


def _files(root: str) -> Iterator[str]:
    local: dict[str, str] = {}
    for folder in LOCAL_FOLDERS:
        local.update(_drop_ins(below(root, folder)))
    vendor = _drop_ins(below(root, VENDOR_FOLDER))
    for name in sorted(vendor.keys() - local.keys()):
        yield vendor[name]
    main = below(root, MAIN_FILE)
    if os.path.exists(main):
        yield main
    for name in sorted(local):
        yield local[name]


def _drop_ins(folder: str) -> dict[str, str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(folder, error) from error
    for name in sorted(names):
        if not name.endswith(".toml"):
            raise ConfigError(
                os.path.join(folder, name),
                "it does not end in .toml, so that its settings would be ignored",
                "Rename or remove it.",
            )
    return {name: os.path.join(folder, name) for name in names}


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, "this line is not UTF-8 text", "Save the file as UTF-8.", line=line) from error


def _unreadable(path: str, error: OSError) -> ConfigError:
    return ConfigError(path, f"it can't be read ({error.strerror})", mend_of(error, "Make it readable, or remove it."))


def _parse(path: str, text: str) -> dict[str, Any]:
    import tomllib  # which health, in the middle of a boot, need not load where there is no file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        from bootctl.toml_faults import line_and_cause

        line, cause = line_and_cause(str(error), text)
        raise ConfigError(path, f"it is no TOML: {cause}", "Correct this line.", line=line) from error
    except RecursionError as error:
        raise ConfigError(path, "its values are nested too deeply", "Nest them less.") from error


def _merge(
    values: dict[str, Any], layer: dict[str, Any], origins: dict[str, Origin], at: Mapping[str, Origin], prefix: str
) -> None:
    for name, value in layer.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            if key in at:
                origins[key] = at[key]
            _merge(values[name], value, origins, at, f"{key}.")
            continue
        for old in [old for old in origins if _within(old, key)]:
            del origins[old]
        origins.update({new: origin for new, origin in at.items() if _within(new, key)})
        values[name] = value


def _within(key: str, ancestor: str) -> bool:
    return key == ancestor or key.startswith((f"{ancestor}.", f"{ancestor}["))
