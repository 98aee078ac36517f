"""Scenario 4: the power is cut in the middle of an update."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.e2e.cuts import cuts
from tests.e2e.images import FACTORY, Images, Loader, Repository
from tests.e2e.node import UPDATE_LIMIT, Node
from tests.e2e.offline import Judge
from tests.e2e.vm import Status, copy_disk
from tests.e2e.writelog import Replay

# Where in the update the power is cut, and how many seconds after that was seen at most: until well into what follows,
# since the machine is asked only every few seconds.
Cut = tuple[str, float]
DOWNLOAD_AND_TRIAL: tuple[Cut, ...] = (("fetching", 20.0), ("trial", 15.0))
BEFORE_THE_FLIP: tuple[Cut, ...] = (
    ("checking", 10.0), ("fetching", 10.0), ("fetching", 30.0), ("sealing", 5.0), ("sealing", 12.0)
)  # fmt: skip
AROUND_THE_FLIP: tuple[Cut, ...] = (
    ("sealing", 20.0), ("sealing", 40.0), ("staged", 40.0), ("trial", 30.0), ("confirmed", 2.0)
)  # fmt: skip
ORDER = ("idle", "checking", "fetching", "sealing", "staged", "rebooting", "trial")
# A boot whose power is cut is a try that failed; these are more than there are cuts.
TRIES = "[boot]\ntries = 7\n"
# Seconds: longer than the waits for a trial take.
PROBATION = 90
# Disks that the log of writes gave, and that are booted besides being judged.
BOOTED = 3


def is_over(status: Status) -> bool:
    """Whether 1.1.0 is confirmed."""
    return status["running"]["slot"] == "b" and bool(status["running"]["confirmed"])


def has_come_to(stage: str) -> Callable[[Status], bool]:
    """Whether the update is in a phase, or beyond it; or whether 1.1.0 is confirmed."""

    def come(status: Status) -> bool:
        if stage == "confirmed":
            return is_over(status)
        begun = status["target"] is not None and ORDER.index(status["phase"]) >= ORDER.index(stage)
        return begun or status["running"]["slot"] == "b"

    return come


@pytest.mark.powercut
@pytest.mark.parametrize(
    "life",
    [
        pytest.param(DOWNLOAD_AND_TRIAL, id="download-and-trial", marks=pytest.mark.ci("systemd-boot")),
        pytest.param(BEFORE_THE_FLIP, id="before-the-flip"),
        pytest.param(AROUND_THE_FLIP, id="around-the-flip"),
    ],
)
def test_a_machine_whose_power_is_cut_again_and_again_ends_with_the_new_release_confirmed(
    node: Node, repository: Repository, life: Sequence[Cut]
) -> None:
    node.configure(more=TRIES, probation=PROBATION)
    old, release = node.slot_digest("a"), repository.release("1.1.0")
    chance = random.Random(len(life))
    node.check()
    for stage, most in life:
        status = node.wait_for(has_come_to(stage), UPDATE_LIMIT, what=f"that the update comes to {stage}")
        assert is_over(status) == (stage == "confirmed")
        time.sleep(chance.uniform(0, most))
        node.power_cut()
        node.start()
        assert node.wait_boot() in ("a", "b")
        node.tell_status("after the cut")
    node.wait_confirmed("1.1.0")
    node.tell_status("after")
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

    samples = {tmp_path / f"sample-{number}.img": "" for number in range(BOOTED)}
    with Replay(base, log, tmp_path / "parts") as replay:
        judge = Judge(replay, loader, [images.release(FACTORY), release])
        chance, judged = random.Random(1), 0
        for cut in cuts(replay, chance, bulk=["rootfs-b"]):
            assert judge.problems() == [], cut
            # Each cut is as likely as any other to be among those that stay at the end.
            if (place := chance.randrange(judged + 1) if judged >= BOOTED else judged) < BOOTED:
                image = list(samples)[place]
                replay.image(image)
                samples[image] = cut
            judged += 1
        assert judge.boots() == "b"
    node.story.tell(f"{judged} cuts were judged")

    for image, cut in samples.items():
        node.story.tell(f"the disk of the cut {cut}")
        os.rename(image, node.disk)
        node.start()
        assert node.wait_boot() in ("a", "b")
        # Before the first look, nobody knows of a release; in a trial the daemon looks for none.
        node.run("updatectl check --no-wait", check=False)
        node.wait_confirmed("1.1.0")
        node.power_cut()
