"""Which checks there are: the check folders of the vendor (/usr/lib) and of the administrator (/etc).

A file of the same name in the same folder of /etc replaces that of /usr/lib, and masks it when it is empty or a
symbolic link to /dev/null, as with systemd's drop-ins. Names that begin with a dot are no checks. Nothing is left out
silently: what can't be used becomes a check that fails and says why, required if it lies in required.d.

The checks of greenboot and of openSUSE's health-checker come after these (see `health.plugins`).
"""

import os
import stat
from collections import Counter

from bootctl.errors import mend_of
from bootctl.settings import ConfigError
from health.check import Check, InvalidProbe, Kind
from health.checkfile import parse_check
from health.folders import Entry, is_mask, names_in
from health.plugins import plugin_checks
from health.rootdir import below

VENDOR = "/usr/lib/updated/health.d"
ADMINISTRATOR = "/etc/updated/health.d"
FOLDERS: tuple[tuple[str, Kind], ...] = (("required.d", "required"), ("wanted.d", "wanted"))
SIZE_LIMIT = 64 * 1024


def load_checks(root: str = "/", *, greenboot: bool = True, health_checker: bool = True) -> tuple[Check, ...]:
    """All checks below `root`, the required ones first, each kind in order of file name (by bytes).

    `greenboot` and `health_checker`: whether the checks of those programs are among them.
    """
    checks: list[Check] = []
    for folder, kind in FOLDERS:
        entries: dict[str, Entry] = {}
        for base in (VENDOR, ADMINISTRATOR):
            path = f"{base}/{folder}"
            try:
                names = names_in(root, path)
            except OSError as error:
                mend = mend_of(error, "Make it a folder.")
                checks.append(_broken(kind, path, path, f"it can't be read ({error.strerror})", mend))
                continue
            for name in names:
                entries[name] = Entry(f"{path}/{name}", os.path.join(below(root, path), name), base == ADMINISTRATOR)
        for label, entry in _labelled(entries):
            if not (entry.maskable and is_mask(root, entry)):
                checks.append(_check(root, kind, label, entry))
    return (*checks, *_misplaced(root), *plugin_checks(root, greenboot=greenboot, health_checker=health_checker))


def _labelled(entries: dict[str, Entry]) -> list[tuple[str, Entry]]:
    """Names each check by its file name without the ending, or with it where two would get the same name."""
    stems = {name: os.path.splitext(name)[0] for name in entries}
    count = Counter(stems.values())
    return [
        (name if count[stems[name]] > 1 or stems[name] in entries else stems[name], entries[name])
        for name in sorted(entries, key=os.fsencode)
    ]


def _check(root: str, kind: Kind, label: str, entry: Entry) -> Check:
    try:
        return _read(root, kind, label, entry)
    except ConfigError as error:
        return Check(kind, label, InvalidProbe(str(error)))
    except OSError as error:
        mend = mend_of(error, "Mend or remove it.")
        return _broken(kind, label, entry.path, f"it can't be read ({error.strerror})", mend)


def _read(root: str, kind: Kind, label: str, entry: Entry) -> Check:
    outside = below(root, entry.path)
    status = os.stat(outside)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(entry.path, "it is not a file", "Put check files straight into the folder.")
    if entry.path.endswith(".toml"):
        if status.st_size > SIZE_LIMIT:
            raise ConfigError(entry.path, f"it is larger than {SIZE_LIMIT} bytes", "Is it a check at all?")
        with open(outside, "rb") as file:
            return parse_check(file.read(SIZE_LIMIT), entry.path, kind, label)
    if status.st_mode & 0o111:
        from health.probes.programs import ExecProbe

        return Check(kind, label, ExecProbe((entry.path, "check")))
    raise ConfigError(
        entry.path,
        "it is neither a .toml file nor executable",
        "Let its name end in .toml, make it executable, or remove it.",
    )


def _misplaced(root: str) -> list[Check]:
    """What lies beside required.d and wanted.d is never run; a person who put a check there has to hear of it."""
    folders = [folder for folder, _ in FOLDERS]
    found: list[Check] = []
    for base in (VENDOR, ADMINISTRATOR):
        try:
            names = sorted(names_in(root, base), key=os.fsencode)
        except OSError as error:
            mend = mend_of(error, f"Make it a folder with {' and '.join(folders)}.")
            found.append(_broken("required", base, base, f"it can't be read ({error.strerror})", mend))
            continue
        found += [
            _broken(
                "wanted",
                f"{base}/{name}",
                f"{base}/{name}",
                "nothing reads it here",
                f"Move it to {' or '.join(folders)}.",
            )
            for name in names
            if name not in folders
        ]
    return found


def _broken(kind: Kind, label: str, path: str, cause: str, mend: str) -> Check:
    return Check(kind, label, InvalidProbe(str(ConfigError(path, cause, mend))))
