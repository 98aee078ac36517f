"""The daemon's configuration: each key checked, each path below the root, each error with its place."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl.settings import ConfigError
from updated.config import KEYS, Settings, read_settings

LEAST = '[repository]\nurl = "https://updates.example.org/"\n[identity]\ncompatible = "box"\n'


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(root: Path, more: str = "") -> Settings:
    write(root, "etc/updated/updated.toml", LEAST + more)
    return read_settings(str(root))


def refusal(root: Path, more: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(root, more)
    return caught.value


def test_two_values_are_enough(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.url, found.compatible, found.policy.channel) == ("https://updates.example.org/", "box", "stable")
    assert found.policy.enabled
    assert found.policy.reboot_automatically
    assert not found.policy.allow_downgrade
    assert (found.policy.interval, found.policy.tries) == (3600, 3)
    assert found.reboot_command == ("systemctl", "reboot")
    assert found.start_command == ("systemctl", "start")


def test_every_default_is_one_that_its_own_rule_accepts() -> None:
    for table in KEYS.values():
        for name, key in table.items():
            assert key.required or key.accepts(key.default), name


def test_what_is_required_is_asked_for(tmp_path: Path) -> None:
    lines = [line for line in LEAST.splitlines() if not line.startswith("compatible")]
    write(tmp_path, "etc/updated/updated.toml", "\n".join(lines))
    with pytest.raises(ConfigError, match=r"\.compatible: it is not set\. Set it to "):
        read_settings(str(tmp_path))


def test_no_configuration_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"etc/updated/updated\.toml: it is not there"):
        read_settings(str(tmp_path))


def test_paths_are_below_the_root_and_can_not_leave_it(tmp_path: Path) -> None:
    found = read(tmp_path, '[metrics]\nlisten = "unix:/run/../../../m.sock"\n')
    assert found.metrics_listen == f"unix:{tmp_path}/m.sock"
    assert found.root_of_trust == f"{tmp_path}/usr/share/updated/root.json"
    assert found.state("lock") == f"{tmp_path}/var/lib/updated/lock"
    assert found.run("status.json") == f"{tmp_path}/run/updated/status.json"
    write(tmp_path, "etc/updated/updated.toml", LEAST.replace("https://updates.example.org/", "file:///media/stick"))
    assert read_settings(str(tmp_path)).url == f"file://{tmp_path}/media/stick"


def test_mirrors_are_below_the_root_as_the_repository_is(tmp_path: Path) -> None:
    places = '["http://m/", "file:///media/stick"]'
    write(tmp_path, "etc/updated/updated.toml.d/10.toml", f"[repository]\nmirrors = {places}\n")
    assert read(tmp_path).mirrors == ("http://m/", f"file://{tmp_path}/media/stick")


def test_the_download_is_limited_as_told(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert (found.mirrors, found.connections, found.bandwidth_limit) == ((), 4, 0)
    found = read(tmp_path, "[fetch]\nconnections = 16\nbandwidth_limit = 1024\n")
    assert (found.connections, found.bandwidth_limit) == (16, 1024)


def test_layers_override_each_other_key_by_key(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/updated/updated.toml.d/10-image.toml", "[updates]\ninterval_seconds = 10\n")
    write(tmp_path, "run/updated/updated.toml.d/50-now.toml", '[updates]\nreboot = "manual"\n')
    found = read(tmp_path, '[updates]\nreboot_command = ["true"]\n')
    assert (found.policy.interval, found.policy.reboot_automatically, found.reboot_command) == (10, False, ("true",))


def test_downgrades_are_allowed_by_a_word_of_the_operator(tmp_path: Path) -> None:
    assert read(tmp_path, "[updates]\nallow_downgrade = true\n").policy.allow_downgrade


def test_who_switched_updates_off_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, "[updates]\nenabled = false\n")
    assert not found.policy.enabled
    assert found.policy.disabled_by == f"{tmp_path}/etc/updated/updated.toml:6: [updates] enabled = false"
    switch = write(tmp_path, "usr/.noupdate", "")
    assert read(tmp_path).policy.disabled_by == str(switch)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('[repository]\nurl = "ftp://x/"', "it is no TOML"),  # the table is there already
        ("[updates]\nintervall = 5", "updates.intervall: there is no such key"),
        ("[update]", "update: there is no such table"),
        ("[[updates]]", "updates: it is no table"),
        ("[updates]\ninterval_seconds = true", "updates.interval_seconds: True is not accepted"),
        ("[updates]\ninterval_seconds = 3600.0", "updates.interval_seconds: 3600.0 is not accepted"),
        ("[updates]\ninterval_seconds = 2592001", "updates.interval_seconds: 2592001 is not accepted"),
        ("[updates]\nreboot = 'never'", "updates.reboot: 'never' is not accepted. It holds \"auto\" or \"manual\""),
        ("[updates]\nreboot = []", "updates.reboot: [] is not accepted"),
        ("[updates]\nreboot_command = 'reboot'", "updates.reboot_command: 'reboot' is not accepted"),
        ("[updates]\nreboot_command = []", "updates.reboot_command: [] is not accepted"),
        ("[fetch]\nconnections = 0", "fetch.connections: 0 is not accepted"),
        ("[fetch]\nconnections = 17", "fetch.connections: 17 is not accepted"),
        ("[fetch]\nbandwidth_limit = 100", "fetch.bandwidth_limit: 100 is not accepted"),
        ("[fetch]\nbandwidth_limit = 0.0", "fetch.bandwidth_limit: 0.0 is not accepted"),
        ("[fetch]\nbandwidth_limit = false", "fetch.bandwidth_limit: False is not accepted"),
        ("[metrics]\nlisten = '127.0.0.1:65536'", "metrics.listen: '127.0.0.1:65536' is not accepted"),
        ("[metrics]\nlisten = '9836'", "metrics.listen: '9836' is not accepted"),
        ("[log]\nlevel = 'loud'", "log.level: 'loud' is not accepted"),
        ("[disk]\nimage = 'disk.img'", "disk.image: 'disk.img' is no absolute path"),
        ("[disk]\nimage = '/a'\ndevice = '/b'", "only one of them can be the disk"),
        ("[boot]\ntries = 16", "boot.tries: 16 is no number of tries"),
    ],
)
def test_what_does_not_fit_is_an_error_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    error = refusal(tmp_path, f"\n{line}\n")
    assert words in str(error)
    assert error.file == str(tmp_path / "etc/updated/updated.toml")
    assert error.line is not None
    assert error.line >= 6
    assert error.mend


@pytest.mark.parametrize("url", ["example.org", "http://", "http:///x", "file://host/x", "http://a b/", "//x"])
def test_what_is_no_address_of_a_repository_is_refused(tmp_path: Path, url: str) -> None:
    write(tmp_path, "etc/updated/updated.toml", LEAST.replace("https://updates.example.org/", url))
    with pytest.raises(ConfigError, match=r"repository\.url: .* is not accepted"):
        read_settings(str(tmp_path))


def with_repository(root: Path, lines: str) -> Settings:
    write(root, "etc/updated/updated.toml", f'[repository]\n{lines}\n[identity]\ncompatible = "box"\n')
    return read_settings(str(root))


@pytest.mark.parametrize("lines", ["", 'url = ""', 'path = ""'])
def test_a_node_may_have_no_repository(tmp_path: Path, lines: str) -> None:
    found = with_repository(tmp_path, lines)
    assert (found.url, found.path, found.policy.repository) == ("", "", False)


def test_a_path_is_a_repository_below_the_root(tmp_path: Path) -> None:
    found = with_repository(tmp_path, 'path = "/media/updates"\nexpired_grace_days = 30')
    assert (found.path, found.policy.repository) == (f"{tmp_path}/media/updates", True)
    assert found.grace == 30 * 86400


def test_a_higher_file_takes_a_url_back_for_a_path(tmp_path: Path) -> None:
    write(tmp_path, "etc/updated/updated.toml.d/10.toml", '[repository]\nurl = ""\npath = "/media/updates"\n')
    assert (read(tmp_path).url, read(tmp_path).path) == ("", f"{tmp_path}/media/updates")


def test_people_are_warned_a_week_before_metadata_expires_or_as_told(tmp_path: Path) -> None:
    assert (read(tmp_path).policy.warn_early, read(tmp_path).grace) == (7 * 86400, 0)
    assert with_repository(tmp_path, "expiry_warning_days = 0").policy.warn_early == 0


URL = 'url = "http://h/"\n'


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (URL + 'path = "/media"', 'repository.path: url is set as well. Keep one of the two; url = "" takes back'),
        ('path = "media"', "repository.path: 'media' is not accepted"),
        ('path = "/media"\nmirrors = ["http://m/"]', "repository.mirrors: url is not set"),
        (URL + "expired_grace_days = 1", "repository.expired_grace_days: url is set, and what comes from there must"),
        ("expired_grace_days = -1", "repository.expired_grace_days: -1 is not accepted"),
        ("expired_grace_days = 3651", "repository.expired_grace_days: 3651 is not accepted"),
        ("expired_grace_days = 0.5", "repository.expired_grace_days: 0.5 is not accepted"),
        ("expiry_warning_days = 366", "repository.expiry_warning_days: 366 is not accepted"),
    ],
)
def test_what_does_not_fit_together_is_an_error_with_its_line(tmp_path: Path, lines: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_repository(tmp_path, lines)
    assert words in str(caught.value)
    assert caught.value.line == 1 + len(lines.splitlines())


@pytest.mark.parametrize("places", ["'http://h/'", "['ftp://x/']", "['http://h/', 1]", "['']", "[[]]"])
def test_what_is_no_list_of_addresses_is_refused(tmp_path: Path, places: str) -> None:
    write(tmp_path, "etc/updated/updated.toml.d/10.toml", f"[repository]\nmirrors = {places}\n")
    with pytest.raises(ConfigError, match=r"repository\.mirrors: .* is not accepted"):
        read(tmp_path)


values = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.sampled_from(
    ['""', '"x"', '"/a/b"', '"http://h/"', "[]", '["a"]', "[1]", "{}", "{a = 1}", "2026-01-01", "00:00:00"]
)


@given(st.sampled_from([(table, key) for table, keys in KEYS.items() for key in keys]), values)
@settings(max_examples=60, deadline=None)
def test_any_value_of_any_key_is_accepted_or_one_typed_error(place: tuple[str, str], value: object) -> None:
    table, key = place
    text = str(value).lower() if isinstance(value, bool | float) else str(value)
    with tempfile.TemporaryDirectory() as folder:
        least = "" if key == "url" else '[repository]\nurl = "http://h/"\n' if table != "repository" else ""
        write(Path(folder), "etc/updated/updated.toml", least)
        own = 'url = "http://h/"\n' if table == "repository" and key != "url" else ""
        box = 'compatible = "box"\n'
        text = f"[{table}]\n{own}{key} = {text}\n" + ("" if table == "identity" else f"[identity]\n{box}")
        write(Path(folder), "etc/updated/updated.toml.d/10.toml", text)
        try:
            read_settings(folder)
        except ConfigError as error:
            if error.key != f"{table}.{key}":
                raise
