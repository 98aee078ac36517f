"""A node's turn in a rollout, as its operator wants it, and releases that the publisher calls urgent."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.node.bench import IMAGE_SIZE, WAITING, Bench, bench
from updated.config import read_settings
from updated.daemon import one_cycle
from updated.engine import Engine

HOUR = 3600


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Bench]:
    """A node that runs 1.0.0, and 1.1.0, which no channel ships yet."""
    with bench(tmp_path) as made:
        made.publisher.release("1.1.0", size=IMAGE_SIZE, channels=(), patches=0)
        yield made


def channel(node: Bench, verb: str, *options: str, version: str = "1.1.0") -> None:
    """A verb of releasectl about a release in stable."""
    place = ("--keys", str(node.publisher.keys), "--channel", "stable", "--version", version)
    node.publisher.call(verb, str(node.repository), *place, *options)


def configure(node: Bench, line: str) -> None:
    """Sets a key of [updates]."""
    node.machine.write_config(node.machine.config.replace("[updates]\n", f"[updates]\n{line}\n"))


def close(node: Bench, *kinds: str) -> None:
    """Adds windows that open in six hours."""
    start = datetime.now(UTC) + timedelta(hours=6)
    lines = "".join(f'[[windows.{kind}]]\nstart = "{start:%H:%M}"\nlength_minutes = 60\n' for kind in kinds)
    node.machine.write_config(f'{node.machine.config}\n[windows]\ntime_zone = "UTC"\n{lines}')


def waits_for(node: Bench, code: str) -> bool:
    """Whether the node has a release staged, and waits for just this."""
    if not (node.root / "run/updated/status.json").exists():
        return False
    found = node.status()
    return found["phase"] == "staged" and reasons(found) == [code]


def reasons(status: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in status["reasons"]]


def staged(node: Bench) -> list[str]:
    """What the history says about each time that a release was staged."""
    lines = (node.root / "var/lib/updated/history.jsonl").read_text().splitlines()
    return [entry["text"] for entry in map(json.loads, lines) if entry["kind"] == "staged"]


def test_a_node_that_is_put_first_takes_a_release_with_the_first_wave(node: Bench) -> None:
    configure(node, 'wave = "first"')
    channel(node, "promote", "--waves", "0.1%,100%@1h")
    node.updates()


def test_a_node_that_is_put_last_waits_for_the_end_of_the_rollout(node: Bench) -> None:
    configure(node, 'wave = "last"')
    channel(node, "promote", "--waves", "99.9%")
    text = "the rollout ends at 99.9 % of the nodes until the publisher goes on, and it comes after all others"
    assert text in node.once(WAITING)
    channel(node, "rollout", "--waves", "99.9%,100%@1h")
    assert "Z, after all others ([updates] wave)" in node.once(WAITING)
    channel(node, "rollout", "--all")
    node.updates()


def test_a_ring_of_nodes_has_the_place_that_its_operator_gave_it(node: Bench) -> None:
    configure(node, "wave = 0.25")
    channel(node, "promote", "--waves", "25%")
    assert "after 25 % of the nodes ([updates] wave)" in node.once(WAITING)
    channel(node, "rollout", "--waves", "25.1%")
    node.updates()


def test_without_a_word_of_the_operator_the_place_is_another_one_for_each_release(node: Bench) -> None:
    told = []
    for version in ("1.1.0", "1.2.0"):
        if version != "1.1.0":
            node.publisher.release(version, size=IMAGE_SIZE, channels=(), patches=0)
        channel(node, "promote", "--waves", "0%", version=version)
        text = node.once(WAITING)
        assert f"{version} is not for this node yet: the rollout ends at 0 % of the nodes" in text
        told.append(node.status()["reasons"][0]["text"].partition("and it comes ")[2])
    assert told[0] != told[1]
    assert "[updates]" not in "".join(told)


def test_a_clock_that_is_set_back_takes_no_release_away(node: Bench) -> None:
    """What may be taken waits for another reason, so that each cycle decides anew."""
    configure(node, "wave = 0.5\nenabled = false")
    channel(node, "promote", "--waves", "10%,100%@10h")
    now = time.time()

    def reason(clock: float) -> str:
        asyncio.run(one_cycle(Engine(read_settings(str(node.root)), clock=lambda: clock)))
        code: str = node.status()["reasons"][0]["code"]
        return code

    assert [reason(now + hours * HOUR) for hours in (0, 9, 11, 0, 9)] == [
        "wave", "wave", "disabled", "disabled", "disabled"
    ]


# ---------------------------------------------------------------------------------------------------------- urgency


def test_an_urgent_release_is_known_as_such_by_the_process_that_seals_it(node: Bench) -> None:
    channel(node, "promote", "--urgent")
    node.updates()
    (text,) = staged(node)
    assert text.endswith("; it is urgent")


def test_an_urgent_release_comes_by_its_waves_all_the_same(node: Bench) -> None:
    configure(node, "wave = 0.5")
    channel(node, "promote", "--waves", "10%", "--urgent")
    before = node.disk_content()
    assert "the rollout ends at 10 % of the nodes" in node.once(WAITING)
    assert node.disk_content() == before
    channel(node, "rollout", "--all")
    node.updates()
    assert staged(node)[0].endswith("; it is urgent")


def test_what_follows_an_urgent_release_is_urgent_for_who_has_neither(node: Bench) -> None:
    channel(node, "promote", "--urgent")
    node.ship("1.2.0")
    node.updates("1.2.0")
    assert staged(node)[0].endswith("; it is urgent")


def test_a_staged_release_that_becomes_urgent_is_sealed_again_and_none_of_it_is_downloaded(node: Bench) -> None:
    channel(node, "promote")
    node.updates()
    channel(node, "rollout", "--urgent")
    node.updates()
    assert [text.endswith("; it is urgent") for text in staged(node)] == [False, True]
    assert node.status()["last_install"]["components"]["rootfs"]["blob"] == 0
    node.updates()
    assert len(staged(node)) == 2


def test_an_operator_who_refuses_urgency_has_the_staged_release_left_alone(node: Bench) -> None:
    configure(node, 'urgent = "as-usual"')
    channel(node, "promote")
    node.updates()
    channel(node, "rollout", "--urgent")
    node.updates()
    assert len(staged(node)) == 1


def test_an_urgent_release_is_downloaded_outside_of_the_window(node: Bench) -> None:
    close(node, "download")
    channel(node, "promote")
    assert "the download window is closed until" in node.once(WAITING)
    channel(node, "rollout", "--urgent")
    node.updates()


def test_who_refuses_urgency_downloads_in_the_window_alone(node: Bench) -> None:
    configure(node, 'urgent = "as-usual"')
    close(node, "download")
    channel(node, "promote", "--urgent")
    assert "the download window is closed until" in node.once(WAITING)


def test_a_staged_release_that_becomes_urgent_is_booted_outside_of_the_window(node: Bench, bus: str) -> None:
    node.machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    close(node, "reboot")
    channel(node, "promote")
    node.machine.start_daemon()
    node.machine.wait_until(lambda: waits_for(node, "reboot-window"))
    channel(node, "rollout", "--urgent")
    node.machine.updatectl("check", "--no-wait")
    node.machine.wait_until(node.machine.reboot_asked.exists)
    assert [text.endswith("; it is urgent") for text in staged(node)] == [False, True]
    assert node.machine.power_on() == "b"


def test_who_refuses_urgency_reboots_in_the_window_alone(node: Bench, bus: str) -> None:
    node.machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
    configure(node, 'urgent = "as-usual"')
    close(node, "reboot")
    channel(node, "promote", "--urgent")
    node.machine.start_daemon()
    node.machine.wait_until(lambda: waits_for(node, "reboot-window"))
    assert staged(node)[0].endswith("; it is urgent")
    assert not node.machine.reboot_asked.exists()
