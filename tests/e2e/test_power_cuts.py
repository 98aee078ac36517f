"""Scenario 4: the power is cut in the middle of an update."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cuts import cuts
from tests.e2e.images import FACTORY, Images, Loader, Repository
from tests.e2e.node import UPDATE_LIMIT, Node
from tests.e2e.offline import Judge
from tests.e2e.vm import Status, copy_disk
from tests.e2e.writelog import Replay

# In which phase the power is cut, and how long after it was seen at most: until well into what follows, since the
# machine is asked for its phase only every few seconds.
STAGES = (("fetching", 30.0), ("sealing", 15.0), ("sealing", 40.0), ("trial", 40.0))
ORDER = ("idle", "checking", "fetching", "sealing", "staged", "rebooting", "trial")


def has_come_to(phase: str) -> Callable[[Status], bool]:
    """Whether the update is in `phase`, or beyond it."""
    return lambda status: status["running"]["slot"] == "b" or (
        status["target"] is not None and ORDER.index(status["phase"]) >= ORDER.index(phase)
    )


@pytest.mark.powercut
def test_a_machine_whose_power_is_cut_boots_goes_on_and_ends_with_the_new_release_confirmed(
    node: Node, repository: Repository, cut: int
) -> None:
    phase, most = STAGES[cut % len(STAGES)]
    old, release = node.slot_digest("a"), repository.release("1.1.0")
    node.check()
    node.wait_for(has_come_to(phase), UPDATE_LIMIT, what=f"that the update comes to {phase}")
    time.sleep(random.Random(cut).uniform(0, most))
    node.power_cut()

    node.start()
    assert node.wait_boot() in ("a", "b")
    node.tell_status("after the cut")
    node.wait_confirmed("1.1.0")
    assert node.slot() == "b"
    assert node.holds("b", release)
    assert node.slot_digest("a") == old


@pytest.mark.powercut
def test_at_each_write_of_an_update_the_disk_holds_a_release_that_boots(
    make_node: Callable[[Loader], Node], loader: Loader, images: Images, repository: Repository, tmp_path: Path
) -> None:
    node = make_node(loader)
    node.start()
    node.wait_boot()
    node.configure()
    node.stop()
    base, log = tmp_path / "base.img", tmp_path / "writes"
    copy_disk(node.disk, base)
    release = repository.release("1.1.0")

    node.start(log_writes=log)
    node.wait_boot()
    node.check()
    node.wait_confirmed("1.1.0")
    node.power_cut()

    with Replay(base, log, tmp_path / "parts") as replay:
        judge = Judge(replay, loader, [images.release(FACTORY), release])
        judged = 0
        for cut in cuts(replay, random.Random(1), bulk=["rootfs-b"]):
            assert judge.problems() == [], cut
            judged += 1
        assert judge.boots() == "b"
    node.story.tell(f"{judged} cuts were judged")
