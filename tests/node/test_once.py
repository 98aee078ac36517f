"""One cycle without a daemon: check, fetch, seal, arm; and what a machine boots then."""

from __future__ import annotations

import json
import os
import re

from tests.fakes.machine import Machine
from tests.node.world import Publisher


def once(machine: Machine, status: int = 0) -> str:
    done = machine.run("updated", "--root", str(machine.root), "--once", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def state_of(machine: Machine) -> dict[str, object]:
    document: dict[str, object] = json.loads((machine.root / "run/updated/status.json").read_text())
    return document


def test_a_new_release_is_written_sealed_armed_booted_and_confirmed(machine: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    text = once(machine)
    assert "1.1.0 is staged and boots next" in text
    assert machine.power_on() == "b"
    assert "1.1.0" in (machine.root / "etc/os-release").read_text()
    once(machine)
    assert state_of(machine)["running"] == {"slot": "b", "version": "1.1.0", "confirmed": True}


def test_a_root_may_be_named_from_where_one_stands(machine: Machine) -> None:
    config = machine.root / "etc/updated/updated.toml"
    text = re.sub(r'url = ".*"', 'url = "file:///repository"', config.read_text())
    config.write_text(text)
    root = os.path.relpath(machine.root)
    done = machine.run("updated", "--root", root, "--once", check=False)
    assert f"{machine.root}/repository/metadata/timestamp.json: is not there" in done.stdout, done.stderr


def test_nothing_new_changes_nothing_on_the_disk(machine: Machine) -> None:
    before = machine.disk.read_bytes()
    assert "newest release of channel stable" in once(machine)
    assert machine.disk.read_bytes() == before


def test_a_sick_release_falls_back_is_denied_and_is_not_tried_again(machine: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0", sick=True)
    once(machine)
    assert machine.power_on() == "a"
    assert machine.boots == ["a", "b", "a"]
    text = once(machine)
    assert "fell back from 1.1.0: required check content failed" in text
    assert "\n  denied: 1.1.0 failed here: required check content failed" in text
    assert state_of(machine)["denied"]
    before = machine.disk.read_bytes()
    once(machine)
    assert machine.disk.read_bytes() == before


def test_a_release_that_panics_falls_back_when_its_tries_are_used(machine: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    once(machine)
    machine.panics = lambda root: "1.1.0" in (root / "etc/os-release").read_text()
    assert machine.power_on() == "a"
    assert machine.boots == ["a", "b", "b", "b", "a"]
    assert "fell back from 1.1.0: slot b did not come up on trial" in once(machine)


def test_after_a_fallback_a_newer_release_is_taken(machine: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0", sick=True)
    once(machine)
    machine.power_on()
    publisher.release("1.2.0")
    once(machine)
    assert machine.power_on() == "b"
    assert "1.2.0" in (machine.root / "etc/os-release").read_text()


def test_what_the_slot_holds_already_is_not_downloaded_again(machine: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    once(machine)
    machine.power_on()
    publisher.release("1.2.0")
    once(machine)
    document = json.loads((machine.root / "run/updated/status.json").read_text())
    installed = document["last_install"]["components"]["rootfs"]
    assert installed["in_place"] > installed["image"] // 2
    assert installed["downloaded"] < installed["image"] // 2


def test_what_runs_already_is_not_downloaded_again(machine: Machine, publisher: Publisher) -> None:
    publisher.release("1.1.0")
    once(machine)
    document = json.loads((machine.root / "run/updated/status.json").read_text())
    installed = document["last_install"]["components"]["rootfs"]
    assert installed["copied"] > installed["image"] // 2
    assert installed["downloaded"] < installed["image"] // 2


def test_a_look_that_fails_beside_a_staged_release_names_no_release_and_loses_no_figures(
    machine: Machine, publisher: Publisher
) -> None:
    publisher.release("1.1.0")
    once(machine)
    installed = state_of(machine)["last_install"]
    machine.write_config(re.sub(r'url = ".*"', 'url = "http://127.0.0.1:9"', machine.config))
    once(machine, 1)
    last = json.loads((machine.state / "history.jsonl").read_text().splitlines()[-1])
    assert (last["kind"], last["version"]) == ("failed", "")
    assert "127.0.0.1:9" in last["text"]
    shown = state_of(machine)
    assert shown["target"] == {"version": "1.1.0", "slot": "b", "armed": True}
    assert shown["last_install"] == installed, "the process that installed it has ended"
