"""A wrong configuration: the node does nothing, and names file, line, key, cause and mend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.bench import USAGE, Bench, bench


@pytest.fixture
def node(shared: Bench) -> Iterator[Bench]:
    """The same node for all of these: none of them changes anything but the configuration, which comes back."""
    right = shared.machine.config
    yield shared
    shared.machine.write_config(right)


def line_of(path: Path, text: str) -> int:
    return path.read_text().split("\n").index(text) + 1


WRONG_LINES = {
    "an unknown key": ("[updates]\n", "[updates]\ninterval_minutes = 5\n", "interval_minutes = 5",
                       "updates.interval_minutes: there is no such key. Use one of: enabled,"),
    "a wrong type": ("interval_seconds = 3600", 'interval_seconds = "1 h"', 'interval_seconds = "1 h"',
                     "updates.interval_seconds: \"1 h\" is not accepted. It holds a whole number of seconds"),
    "a value out of range": ("interval_seconds = 3600", "interval_seconds = 0", "interval_seconds = 0",
                             "updates.interval_seconds: 0 is not accepted"),
    "a truth that is a number": ("[updates]\n", "[updates]\nenabled = 1\n", "enabled = 1",
                                 "updates.enabled: 1 is not accepted. It holds true or false"),
    "an unknown table": ("[fetch]\n", "[fetcher]\n", "[fetcher]", "fetcher: there is no such table. Use one of: boot,"),
    "a key outside of any table": ("[repository]\n", "enabled = true\n[repository]\n", "enabled = true",
                                   "enabled: there is no such table"),
    "an address that is none": ('channel = "stable"', 'channel = "stable"\nproxy = "ftp://proxy"',
                                'proxy = "ftp://proxy"', "repository.proxy: \"ftp://proxy\" is not accepted"),
    "a channel that can't be one": ('channel = "stable"', 'channel = "../root"', 'channel = "../root"',
                                    "repository.channel: \"../root\" is not accepted. It holds the name of a channel"),
    "a backend that is unknown": ("[updates]\n", '[boot]\nbackend = "lilo"\n[updates]\n', 'backend = "lilo"',
                                  "boot.backend: \"lilo\" is no backend. Use one of: auto, gptprio"),
    "no TOML": ("interval_seconds = 3600", "interval_seconds 3600", "interval_seconds 3600", "it is no TOML"),
}


@pytest.mark.parametrize("wrong", WRONG_LINES)
def test_it_is_refused_with_file_line_and_key(node: Bench, wrong: str) -> None:
    before, after, faulty, words = WRONG_LINES[wrong]
    right = node.machine.config
    assert before in right
    node.machine.write_config(right.replace(before, after))
    path = node.root / "etc/updated/updated.toml"
    place = f"updated: {path}:{line_of(path, faulty)}: "
    text = node.refuses_untouched("bad-config", words, expected=USAGE)
    assert text.startswith(place), text
    assert text.count("\n") == 1


def test_a_required_key_that_is_missing_is_named(node: Bench) -> None:
    node.machine.write_config(node.machine.config.replace('compatible = "test-machine"', ""))
    node.refuses_untouched("bad-config", "identity.compatible: it is not set", expected=USAGE)


def test_a_drop_in_with_another_ending_is_not_silently_ignored(node: Bench) -> None:
    drop_in = node.root / "etc/updated/updated.toml.d/10-hold.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[updates]\nenabled = false\n")
    node.refuses_untouched("bad-config", f"{drop_in}: it does not end in .toml", expected=USAGE)
    drop_in.unlink()


def os_release(node: Bench, text: str) -> None:
    for name in ("etc/os-release", "usr/lib/os-release"):
        (node.root / name).unlink()
        (node.root / name).write_text(text)


def test_an_image_that_does_not_say_its_version_is_named(node: Bench) -> None:
    os_release(node, "ID=test\n")
    node.refuses_untouched("bad-config", "does not say which version runs", "IMAGE_VERSION", expected=USAGE)
    os_release(node, "IMAGE_VERSION=1.0.0\n")


def test_a_version_that_is_none_is_named(node: Bench) -> None:
    os_release(node, "VERSION_ID=rolling\n")
    node.refuses_untouched("bad-request", "version 'rolling'", "is not a version")
    os_release(node, "IMAGE_VERSION=1.0.0\n")


def test_a_root_folder_that_is_not_there_is_not_created(tmp_path: Path, node: Bench) -> None:
    done = node.machine.run("updated", "--root", str(tmp_path / "typo"), "--once", check=False)
    node.judged(done, USAGE)
    assert not (tmp_path / "typo").exists()


def test_once_the_configuration_is_right_the_node_updates(tmp_path: Path) -> None:
    with bench(tmp_path) as node:
        node.ship()
        right = node.machine.config
        node.machine.write_config(right.replace("interval_seconds", "interval"))
        node.once(USAGE)
        node.machine.write_config(right)
        node.updates()
