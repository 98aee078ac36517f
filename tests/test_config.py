"""The daemon's configuration: each key checked, each path below the root, each error with its place."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootctl.settings import ConfigError
from updated.config import KEYS, Settings, read_settings
from updated.core.selection import Pin
from updated.core.windows import Rate, Window, Windows

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


@pytest.mark.parametrize("url", ["/srv/updates", "file://srv/updates", "ftp://example.org/"])
def test_a_url_that_is_none_is_answered_with_the_place_of_folders(tmp_path: Path, url: str) -> None:
    write(tmp_path, "etc/updated/updated.toml", LEAST.replace("https://updates.example.org/", url))
    with pytest.raises(ConfigError, match=r"updated\.toml:2: repository\.url: .* a directory goes into path\."):
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
    write(tmp_path, "run/updated/updated.toml.d/50-now.toml", '[updates]\nreboot = "sentinel"\n')
    found = read(tmp_path, '[updates]\nreboot_command = ["true"]\n')
    assert (found.policy.interval, found.policy.reboot_automatically, found.reboot_command) == (10, False, ("true",))


KERNELS = '[disk]\nfiles = { kernel = "/efi/EFI/updated/{slot}.efi" }\n'


def test_kexec_is_a_reboot_by_itself_where_the_kernel_is_a_file(tmp_path: Path) -> None:
    found = read(tmp_path, f'[updates]\nreboot = "kexec"\n{KERNELS}')
    assert (found.kexec, found.policy.reboot_automatically, found.policy.sentinel) == (True, True, True)
    assert not read(tmp_path, KERNELS).kexec


@pytest.mark.parametrize(
    ("more", "mend"),
    [
        ("", r"\[disk\] files has no kernel\. Set files = \{ kernel = "),
        ('[disk]\nfiles = { dtb = "/efi/{slot}.dtb" }\n', r"\[disk\] files has no kernel"),
        (f'{KERNELS}[boot]\nbackend = "tryboot"\n', r'alone starts a trial with the backend tryboot\. Use "reboot"'),
    ],
)
def test_kexec_is_refused_where_it_can_not_be(tmp_path: Path, more: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=rf"updated\.toml:6: updates\.reboot: .*{mend}"):
        read(tmp_path, f'[updates]\nreboot = "kexec"\n{more}')


def test_downgrades_are_allowed_by_a_word_of_the_operator(tmp_path: Path) -> None:
    assert read(tmp_path, "[updates]\nallow_downgrade = true\n").policy.allow_downgrade


@pytest.mark.parametrize(
    ("value", "place"),
    [('"random"', None), ('"first"', 0.0), ('"last"', 1.0), ("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1.0", 1.0)],
)
def test_the_operator_places_a_node_in_rollouts(tmp_path: Path, value: str, place: float | None) -> None:
    assert read(tmp_path).policy.wave is None
    assert read(tmp_path, f"[updates]\nwave = {value}\n").policy.wave == place


def test_the_operator_decides_whether_urgent_releases_are_heeded(tmp_path: Path) -> None:
    assert read(tmp_path).policy.heed_urgent
    assert read(tmp_path, '[updates]\nurgent = "now"\n').policy.heed_urgent
    assert not read(tmp_path, '[updates]\nurgent = "as-usual"\n').policy.heed_urgent


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
        ("[updates]\ninterval_seconds = true", "updates.interval_seconds: true is not accepted"),
        ("[updates]\ninterval_seconds = 3600.0", "updates.interval_seconds: 3600.0 is not accepted"),
        ("[updates]\ninterval_seconds = 2592001", "updates.interval_seconds: 2592001 is not accepted"),
        ("[windows]\ntime_zone = 'Europe/Berlim'", "windows.time_zone: "),
        ("[updates]\nreboot = 'never'", "It holds \"reboot\", \"kexec\", \"sentinel\" or \"none\""),
        ("[updates]\nreboot = []", "updates.reboot: [] is not accepted"),
        ("[updates]\nreboot_command = 'reboot'", "updates.reboot_command: \"reboot\" is not accepted"),
        ("[updates]\nreboot_command = []", "updates.reboot_command: [] is not accepted"),
        ("[updates]\nwave = 'never'", "updates.wave: \"never\" is not accepted. It holds \"random\", "),
        ("[updates]\nwave = 1.01", "updates.wave: 1.01 is not accepted"),
        ("[updates]\nwave = -0.5", "updates.wave: -0.5 is not accepted"),
        ("[updates]\nwave = nan", "updates.wave: nan is not accepted"),
        ("[updates]\nwave = true", "updates.wave: true is not accepted"),
        ("[updates]\nwave = []", "updates.wave: [] is not accepted"),
        ("[updates]\nurgent = true", "updates.urgent: true is not accepted. It holds \"now\" or \"as-usual\""),
        ("[fetch]\nconnections = 0", "fetch.connections: 0 is not accepted"),
        ("[fetch]\nconnections = 17", "fetch.connections: 17 is not accepted"),
        ("[fetch]\nbandwidth_limit = 100", "fetch.bandwidth_limit: 100 is not accepted"),
        ("[fetch]\nbandwidth_limit = 0.0", "fetch.bandwidth_limit: 0.0 is not accepted"),
        ("[fetch]\nbandwidth_limit = false", "fetch.bandwidth_limit: false is not accepted"),
        ("[metrics]\nlisten = '127.0.0.1:65536'", "metrics.listen: \"127.0.0.1:65536\" is not accepted"),
        ("[metrics]\nlisten = '9836'", "metrics.listen: \"9836\" is not accepted"),
        ("[log]\nlevel = 'loud'", "log.level: \"loud\" is not accepted"),
        ("[disk]\nimage = 'disk.img'", "disk.image: \"disk.img\" is no absolute path"),
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
    with pytest.raises(ConfigError, match=r"repository\.url: .* is not accepted.* http://, https:// or file:///; "):
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
        ('path = "media"', "repository.path: \"media\" is not accepted"),
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
@settings(max_examples=60)
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


# ----------------------------------------------------------------------------------------------------- windows, pins

NIGHT = 'start = "22:00"\nlength_minutes = 240\n'


def test_windows_are_read_with_their_zone(tmp_path: Path) -> None:
    text = '[windows]\ntime_zone = "Europe/Berlin"\n[[windows.download]]\ndays = ["Mon", "Sun"]\n' + NIGHT
    found = read(tmp_path, f"{text}[[windows.reboot]]\n{NIGHT}").policy
    assert found.downloads.windows == (Window(frozenset({0, 6}), 22 * 60, 240),)
    assert found.reboots.windows == (Window(frozenset(range(7)), 22 * 60, 240),)
    assert str(found.downloads.zone) == str(found.reboots.zone) == "Europe/Berlin"
    assert found.reboot_takes == 600
    assert read(tmp_path, "[windows]\nreboot_takes_minutes = 7\n").policy.reboot_takes == 420
    assert read(tmp_path, "[health]\nprobation_seconds = 0\n").policy.reboot_takes == 300


def test_the_limits_of_bandwidth_have_windows_of_their_own(tmp_path: Path) -> None:
    found = read(tmp_path, f'[windows]\ntime_zone = "UTC"\n[[fetch.bandwidth]]\n{NIGHT}limit = 0\n')
    assert found.rates == (Rate(Windows((Window(start=22 * 60, minutes=240),), UTC), 0),)


def offset(root: Path) -> int:
    """That of the zone in summer, in minutes."""
    zone = read(root, f"[[windows.download]]\n{NIGHT}").policy.downloads.zone
    shift = datetime(2026, 7, 1, tzinfo=zone).utcoffset()
    assert shift is not None
    return int(shift.total_seconds()) // 60


def test_the_clock_is_that_of_the_machine(tmp_path: Path) -> None:
    assert offset(tmp_path) == 0, "without /etc/localtime it is UTC"
    zone = (Path("/usr/share/zoneinfo/Asia/Kathmandu")).read_bytes()
    place = tmp_path / "usr/share/zoneinfo/Asia/Kathmandu"
    place.parent.mkdir(parents=True)
    place.write_bytes(zone)
    for target in ("/usr/share/zoneinfo/Asia/Kathmandu", "../usr/share/zoneinfo/Asia/Kathmandu"):
        (tmp_path / "etc/localtime").symlink_to(target)
        assert offset(tmp_path) == 345
        (tmp_path / "etc/localtime").unlink()
    (tmp_path / "etc/localtime").write_bytes(zone)
    assert offset(tmp_path) == 345


def test_a_zone_that_is_not_there_is_told_with_the_mend(tmp_path: Path) -> None:
    for name in ("Europe/Nowhere", "../etc/passwd", "/etc/localtime", "Europe"):
        error = refusal(tmp_path, f'[windows]\ntime_zone = "{name}"\n[[windows.download]]\n{NIGHT}')
        assert f'windows.time_zone: there is no time zone "{name}"' in str(error)
        assert "tzdata" in error.mend
    write(tmp_path, "etc/updated/updated.toml", "")
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert "/etc/localtime can't be read" in str(refusal(tmp_path, f"[[windows.download]]\n{NIGHT}"))
    assert read(tmp_path).policy.downloads.windows == (), "a zone that nobody asks for need not be there"


def test_reboot_windows_that_are_always_too_short_are_an_error(tmp_path: Path) -> None:
    window = '[[windows.reboot]]\nstart = "03:00"\nlength_minutes = 24\n'
    error = refusal(tmp_path, window)
    assert (
        "windows.reboot: the longest is open for 24 minutes, and a reboot needs 25: 5 to begin, 10 for people who are "
        "logged in, and 10 for itself and its checks" in str(error)
    )
    assert error.line == 5
    read(tmp_path, f"[windows]\nreboot_takes_minutes = 9\n{window}")
    read(tmp_path, f"[updates]\nusers_grace_minutes = 9\n{window}")
    read(tmp_path, f'{window}[[windows.reboot]]\nstart = "03:24"\nlength_minutes = 1\n')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('days = ["Monday"]', "days: [\"Monday\"] is not accepted. It holds a list of: Mon, Tue"),
        ("days = []", "days: [] is not accepted"),
        ("days = [[]]", "days: [[]] is not accepted"),
        ('start = "24:00"', "start: \"24:00\" is not accepted"),
        ('start = "9:00"', "start: \"9:00\" is not accepted"),
        ("start = 22:00:00", "start: 22:00:00 is not accepted"),
        ("length_minutes = 0", "length_minutes: 0 is not accepted"),
        ("length_minutes = 10081", "length_minutes: 10081 is not accepted"),
        ("length_minutes = true", "length_minutes: true is not accepted"),
        ("limit = 1024", "limit: there is no such key"),
    ],
)
def test_a_window_that_does_not_fit_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    rest = [line for line in NIGHT.splitlines() if line.split()[0] != text.split()[0]]
    error = refusal(tmp_path, "\n".join([f"[[windows.download]]\n{NIGHT}[[windows.download]]", text, *rest]))
    assert f"windows.download[1].{words}" in str(error)
    assert error.line == 9


def test_what_a_window_lacks_is_asked_for(tmp_path: Path) -> None:
    assert "reboot[0].start: it is not set" in str(refusal(tmp_path, "[[windows.reboot]]\nlength_minutes = 1\n"))
    assert "length_minutes: it is not set" in str(refusal(tmp_path, '[[windows.reboot]]\nstart = "00:00"\n'))
    assert "fetch.bandwidth[0].limit: it is not set" in str(refusal(tmp_path, f"[[fetch.bandwidth]]\n{NIGHT}"))
    for limit in ("1", "true", "-1"):
        error = refusal(tmp_path, f"[[fetch.bandwidth]]\n{NIGHT}limit = {limit}\n")
        assert "fetch.bandwidth[0].limit" in str(error)
    assert "windows.download: there are 17 of them" in str(refusal(tmp_path, f"[[windows.download]]\n{NIGHT}" * 17))
    table = refusal(tmp_path, "[windows.download]\nstart = 1\n")
    assert "windows.download: { start = 1 } is not accepted" in str(table)


def test_a_pin_is_a_version_and_there_is_one_of_its_kind(tmp_path: Path) -> None:
    assert read(tmp_path, '[updates]\npin = "1.4.2"\n').policy.pin == Pin(only="1.4.2")
    assert read(tmp_path, '[updates]\nnewest = "1.9"\n').policy.pin == Pin(newest="1.9")
    assert read(tmp_path).policy.pin == Pin()
    assert "updates.pin: \"1.x\" is not accepted" in str(refusal(tmp_path, '[updates]\npin = "1.x"\n'))
    assert "updates.newest: 1.9 is not accepted" in str(refusal(tmp_path, "[updates]\nnewest = 1.9\n"))
    assert "updates.newest: pin is set as well" in str(refusal(tmp_path, '[updates]\npin = "1"\nnewest = "1"\n'))


@pytest.mark.parametrize(
    "more",
    ['[repository]\nmirrors = ["https://m.example.org/os"]', '[repository]\nroot_of_trust = "/other.json"',
     '[repository]\nca_bundle = "/ca.pem"', '[repository]\nproxy = "http://proxy:3128"',
     "[repository]\nlowest_rate = 0", "[updates]\nwave = 'first'", "[updates]\nurgent = 'as-usual'",
     "[updates]\npin = '1.0'", "[updates]\nnewest = '1.0'", "[updates]\nallow_downgrade = true"],
)  # fmt: skip
def test_whatever_says_which_release_is_taken_and_from_where_is_a_reason_to_look_at_once(
    more: str, tmp_path: Path
) -> None:
    def sought(text: str) -> tuple[object, ...]:
        write(tmp_path, "etc/updated/updated.toml.d/50.toml", text)
        return read(tmp_path).sought()

    assert sought(more) != sought("") == sought("[updates]\ninterval_seconds = 60\n")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[fetch]\nconnections = 1\n[fetch]\nuser = 'x'\n", 3, "the table [fetch] is there already"),
        ("[windows.reboot]\n[windows.reboot]\n", 2, "the table [windows.reboot] is there already"),
        ("fetch = {}\nfetch.user = 'x'\n", 2, "fetch was set already"),
        ("[fetch]\nuser = 'x'\nuser = 'y'\n", 3, "this key was set already"),
    ],
)
def test_what_is_there_twice_is_told_in_words_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    write(tmp_path, "etc/updated/updated.toml", text)
    with pytest.raises(ConfigError) as caught:
        read_settings(str(tmp_path))
    assert f"updated.toml:{line}: it is no TOML: {words}" in str(caught.value)
    assert "(" not in str(caught.value).rpartition("updated.toml")[2]
