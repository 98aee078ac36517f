"""What scenarios ask of a machine besides what its daemon says, and what each fallback promises."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.e2e.node import Node
from tests.e2e.vm import Status


def times(node: Node, pattern: str) -> int:
    """How many lines of the machine's story so far fit the regular expression, of whichever boot."""
    lines = node.story.path.read_text(errors="replace").splitlines()
    return sum(re.search(pattern, line) is not None for line in lines)


def roots(node: Node) -> list[str]:
    """The slots whose root the initrd has opened, for each boot in turn, whether or not a shell came."""
    return re.findall(r"updated: slot (\w+) on ", node.story.path.read_text(errors="replace"))


def conditions(status: Status) -> dict[str, str]:
    """The slots, and what may become of them."""
    return {slot["slot"]: slot["state"] for slot in status["slots"]}


def reasons(status: Status) -> set[str]:
    """The codes of why the node waits."""
    return {reason["code"] for reason in status["reasons"]}


def armed(status: Status) -> bool:
    """Whether a release is staged, and any reboot takes it."""
    return status["phase"] == "staged" and bool(status["target"]["armed"])


def history(node: Node) -> list[dict[str, Any]]:
    """What the daemon has recorded, the oldest first."""
    text = node.read("/var/lib/updated/history.jsonl")
    return [json.loads(line) for line in text.splitlines()]


@dataclass(frozen=True, slots=True)
class Request:
    """What the node asked the repository for, and the bytes that it got, with the head of the answer."""

    path: str
    sent: int


def requests(node: Node) -> list[Request]:
    """All that the node has asked the repository for, in order."""
    if not node.requests.exists():
        return []
    lines = [line.split() for line in node.requests.read_text().splitlines()]
    # The harness asks for the root, to see that nginx answers.
    return [Request(path, int(sent)) for path, sent in lines if path != "/"]


def assert_left(node: Node, version: str, reason: str, *, untouched: str) -> None:
    """The machine is back in slot a with 1.0.0, says that it left `version` in slot b and why, and won't take it again.

    `reason` is a regular expression; `untouched` the digest of slot a before the update.
    """
    status = node.wait_fallen_back(version)
    assert status["running"] == {"slot": "a", "version": "1.0.0", "confirmed": True}
    assert conditions(status) == {"a": "good", "b": "bad"}
    assert re.search(reason, status["fallback"]["reason"]), status["fallback"]
    assert status["fallback"]["by"] == ""
    assert [denied["version"] for denied in status["denied"]] == [version]
    node.story.tell("status after")
    told = [line for line in node.run("updatectl status")[1].splitlines() if re.search("[Ff]ell back", line)]
    assert f"from {version}" in told[0]
    assert status["fallback"]["reason"] in told[0]
    assert [entry["kind"] for entry in history(node) if entry["version"] == version][-1] == "fell-back"
    # The service that the machine is for runs again, from the slot that nobody has written to.
    node.run("systemctl is-active nginx")
    assert node.slot_digest("a") == untouched
    assert_denied(node, version)


def assert_denied(node: Node, version: str) -> None:
    """The channel ships `version` still, and the node doesn't take it at its next look."""
    resets = node.resets
    node.run("updatectl check --wait")
    status = node.wait_for(lambda status: "denied" in reasons(status), 120, what=f"that {version} is denied")
    assert status["target"] is None
    assert status["running"]["version"] != version
    assert node.resets == resets
