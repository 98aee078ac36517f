"""Scenario 7: release after release, and what each costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.images import Repository
from tests.e2e.node import UPDATE_LIMIT, Node
from tests.e2e.promises import armed, requests, roots


@pytest.mark.timeout(3600)
def test_each_of_three_releases_comes_as_a_delta_from_the_one_before(
    node: Node, repository: Repository, record_property: Callable[[str, object], None]
) -> None:
    node.configure(reboot="none")
    before = "1.0.0"
    full = sum(path.stat().st_size for path in (repository.folder / "blobs").iterdir())
    for version, slot in (("1.1.0", "b"), ("1.2.0", "a"), ("1.3.0", "b")):
        release = repository.release(version)
        seen = len(requests(node))

        node.check()
        status = node.wait_for(armed, UPDATE_LIMIT, what=f"that {version} is staged")
        made = requests(node)[seen:]
        sent = sum(request.sent for request in made)
        told = f"{version}: {sent / 1e6:.2f} MB in {len(made)} requests; the whole release has {full / 1e6:.1f} MB"
        node.story.tell(told)
        print(told)
        record_property(f"downloaded {version}", sent)
        node.tell_status(f"before the reboot into {version}")
        rootfs = status["last_install"]["components"]["rootfs"]
        assert rootfs["plan"].startswith(f"delta from {before}: ")
        # All that went over the wire, metadata too.
        assert sent < full / 50

        node.type("updatectl reboot")
        assert node.wait_for_reboot() == slot
        node.wait_confirmed(version)
        node.tell_status(f"after {version}")
        assert node.holds(slot, release)
        before = version
    assert roots(node) == ["a", "b", "a", "b"]
