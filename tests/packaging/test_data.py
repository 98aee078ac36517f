"""The declarative files: users, folders, and the example of the configuration."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from tests.packaging.shipped import PACKAGING, as_root, open_folder, run

KEYS = {
    "repository": {
        "url",
        "path",
        "mirrors",
        "root_of_trust",
        "channel",
        "ca_bundle",
        "proxy",
        "client_certificate",
        "lowest_rate",
        "expired_grace_days",
        "expiry_warning_days",
    },
    "disk": {"device", "image", "components", "files"},
    "boot": {
        "backend", "grubenv", "esp", "fw_env_config", "autoboot", "tryboot_partitions", "tries", "count_confirmed",
    },
    "identity": {"compatible"},
    "updates": {
        "enabled", "interval_seconds", "reboot", "reboot_command", "start_command", "allow_downgrade", "pin", "newest",
        "users_grace_minutes", "metered", "battery", "wave", "urgent",
    },
    "windows": {"time_zone", "download", "reboot", "reboot_takes_minutes"},
    "fetch": {"user", "connections", "bandwidth_limit", "bandwidth"},
    "health": {
        "probation_seconds", "probation_interval_seconds", "deadline_seconds", "reboots_per_release", "reboots_per_day",
        "greenboot", "health_checker",
    },
    "metrics": {"listen"},
    "log": {"level"},
}

DEFAULTS = {
    ("repository", "root_of_trust"): "/usr/share/updated/root.json",
    ("repository", "channel"): "stable",
    ("repository", "expiry_warning_days"): 7,
    ("boot", "backend"): "auto",
    ("boot", "grubenv"): "/boot/grub/grubenv",
    ("boot", "esp"): "/efi",
    ("boot", "fw_env_config"): "/etc/fw_env.config",
    ("boot", "autoboot"): "/boot/firmware/autoboot.txt",
    ("boot", "tryboot_partitions"): {"a": 2, "b": 3},
    ("boot", "tries"): 3,
    ("boot", "count_confirmed"): False,
    ("updates", "enabled"): True,
    ("updates", "interval_seconds"): 3600,
    ("updates", "reboot"): "reboot",
    ("updates", "users_grace_minutes"): 10,
    ("updates", "metered"): "ignore",
    ("updates", "battery"): "wait",
    ("updates", "reboot_command"): ["systemctl", "reboot"],
    ("updates", "start_command"): ["systemctl", "start"],
    ("windows", "time_zone"): "localtime",
    ("windows", "reboot_takes_minutes"): 0,
    ("updates", "wave"): "random",
    ("updates", "urgent"): "now",
    ("fetch", "user"): "updated-fetch",
    ("fetch", "connections"): 4,
    ("fetch", "bandwidth_limit"): 0,
    ("health", "probation_seconds"): 300,
    ("health", "probation_interval_seconds"): 60,
    ("health", "deadline_seconds"): 900,
    ("health", "reboots_per_release"): 3,
    ("health", "reboots_per_day"): 5,
    ("health", "greenboot"): True,
    ("health", "health_checker"): True,
    ("metrics", "listen"): "127.0.0.1:9836",
    ("log", "level"): "info",
}


def example(*, with_defaults: bool) -> dict[str, dict[str, Any]]:
    text = (PACKAGING / "updated.toml.example").read_text()
    return tomllib.loads(re.sub(r"^#(?=[a-z_]+ = )", "", text, flags=re.MULTILINE) if with_defaults else text)


def test_the_example_as_it_is_sets_only_what_has_no_default() -> None:
    tables = example(with_defaults=False)
    assert {(table, key) for table, values in tables.items() for key in values} == {
        ("repository", "url"),
        ("identity", "compatible"),
    }


def test_the_example_explains_every_key_and_no_other() -> None:
    assert {table: set(values) for table, values in example(with_defaults=True).items()} == KEYS


def test_the_example_shows_the_defaults() -> None:
    tables = example(with_defaults=True)
    assert {(table, key): tables[table][key] for table, key in DEFAULTS} == DEFAULTS


def test_the_fetching_user_and_the_folders_are_made_on_a_bare_machine() -> None:
    """By the real systemd-sysusers and systemd-tmpfiles, in an empty root."""
    steps = """
set -eu
root=$0 packaging=$1
systemd-sysusers --root="$root" "$packaging/sysusers.d/updated.conf" 2>/dev/null
systemd-tmpfiles --create --root="$root" "$packaging/tmpfiles.d/updated.conf"
systemd-tmpfiles --create --root="$root" "$packaging/tmpfiles.d/updated.conf"
cat "$root/etc/passwd" "$root/etc/shadow"
cd "$root"
stat -c '%n %a %u:%g' var/lib/updated var/lib/updated/health var/lib/updated/fetch run/updated run/motd.d
rm -rf "$root"/*
"""
    with open_folder() as root:
        (root / "etc").mkdir()
        done = run(*as_root("sh", "-c", steps, str(root), str(PACKAGING)))
    assert (done.returncode, done.stderr) == (0, "")
    passwd = next(line for line in done.stdout.splitlines() if line.startswith("updated-fetch:x:"))
    _, _, uid, gid, _, home, shell = passwd.split(":")
    assert 0 < int(uid) < 1000
    assert (home, shell) == ("/", "/usr/sbin/nologin")
    assert re.search(r"^updated-fetch:!\*:", done.stdout, re.MULTILINE), "no password opens it"
    assert done.stdout.splitlines()[-5:] == [
        "var/lib/updated 755 0:0",
        "var/lib/updated/health 755 0:0",
        f"var/lib/updated/fetch 750 {uid}:{gid}",
        "run/updated 755 0:0",
        "run/motd.d 755 0:0",
    ]
