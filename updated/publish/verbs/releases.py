"""The verbs about releases: add, promote, rollout, recall."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable

from updated.core.errors import UpdatedError
from updated.core.release import Release, is_compatible, is_name
from updated.core.rollout import Curve, Rollout, percent
from updated.core.version import Version
from updated.publish import blob, waves
from updated.publish.adding import PATCHES, add
from updated.publish.publisher import Promotion, Shipping, mark, promote, recall, roll_out
from updated.publish.repository import locked
from updated.publish.verbs.command import Verbs, key_folder, misuse, opened, pairs, report, taking, version
from updated.publish.whole import Fault

_MAX_NOTES = 65536


def declare(verbs: Verbs) -> None:
    """Declares the verbs of this module."""
    made = verbs.requesting("add", _add, "publish a release; no channel ships it yet")
    _versioned(made, "such as 1.4.0 or 1.4.0-rc.1")
    made.add_argument(
        "--compatible", required=True, type=taking("--compatible", _compatible), metavar="NAME",
        help="which machines the release is made for",
    )  # fmt: skip
    made.add_argument(
        "--component", required=True, action="append", metavar="NAME=IMAGE", help="an image file, such as rootfs=FILE"
    )
    made.add_argument("--notes", metavar="FILE", help="a text for people")
    made.add_argument(
        "--level", type=int, choices=range(1, 23), default=blob.LEVEL, metavar="1-22",
        help="the level of zstd (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--patches", type=int, choices=range(10), default=PATCHES, metavar="0-9",
        help="from how many of the newest releases to make patches (default: %(default)s)",
    )  # fmt: skip

    made = verbs.requesting("promote", _promote, "ship a release in a channel")
    made.add_argument("--channel", required=True, metavar="NAME", help="the channel")
    _versioned(made, "the release")
    spread = made.add_mutually_exclusive_group()
    _spread(spread, "--rollout-hours", "spread the nodes evenly over this time")
    _waved(spread, "a share of the nodes at a time: 1%%,10%%@24h,100%%@3d")
    made.add_argument("--barrier", action="store_true", help="nodes with older releases must pass through this one")
    made.add_argument(
        "--minimum", type=taking("--minimum", version), metavar="VERSION",
        help="only nodes that run this one or a newer one may take it",
    )  # fmt: skip
    made.add_argument("--urgent", action="store_true", help="nodes don't wait for their windows")

    made = verbs.requesting("rollout", _rollout, "go on with the rollout of a release, or pause it")
    made.add_argument("--channel", required=True, metavar="NAME", help="the channel")
    _versioned(made, "the release")
    how = made.add_mutually_exclusive_group(required=True)
    _spread(how, "--hours", "the rest of the nodes evenly over this time")
    _waved(how, "waves from now on, such as 10%%,100%%@24h")
    how.add_argument("--pause", action="store_true", help="no more nodes than now")
    how.add_argument("--resume", action="store_true", help="after a pause, go on as before")
    how.add_argument("--all", action="store_true", help="all nodes now")
    how.add_argument("--urgent", action="store_true", help="nodes don't wait for their windows; the waves stay")
    how.add_argument("--as-usual", action="store_true", help="nodes wait for their windows again")

    made = verbs.requesting("recall", _recall, "take a release back: no node of the channel takes it any more")
    made.add_argument("--channel", required=True, metavar="NAME", help="the channel")
    _versioned(made, "the release")
    made.add_argument("--reason", required=True, metavar="TEXT", help="for the people who read it on the nodes")
    made.add_argument(
        "--replacement", type=taking("--replacement", version), metavar="VERSION",
        help="an older release that nodes go back to, if their operator allows that",
    )  # fmt: skip


def _versioned(made: argparse.ArgumentParser, text: str) -> None:
    made.add_argument("--version", required=True, type=taking("--version", version), metavar="VERSION", help=text)


def _spread(group: argparse._MutuallyExclusiveGroup, option: str, text: str) -> None:
    group.add_argument(option, type=taking(option, waves.hours), metavar="HOURS", help=text)


def _waved(group: argparse._MutuallyExclusiveGroup, text: str) -> None:
    group.add_argument("--waves", type=taking("--waves", waves.waves), metavar="WAVES", help=text)


def _compatible(text: str) -> str:
    if is_compatible(text):
        return text
    raise UpdatedError(
        "bad-request", f"the kind of machine {text!r}", "can't be the name of a kind of machine",
        "Use letters, digits, blanks and .+_-, at most 128, from a letter or digit on, such as example-board-v1.",
    )


def _add(options: argparse.Namespace) -> None:
    images = _images(options.component)
    keys = key_folder(options)
    version = Version(options.version)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = time.time()
    draft = Release(
        version=version, compatible=options.compatible, built=int(epoch) if epoch.isdecimal() else int(now),
        components={}, notes=_notes(options.notes),
    )  # fmt: skip
    restored: list[tuple[str, Fault]] = []
    with locked(options.repository):
        repository = opened(options)
        stored = add(
            repository, keys, draft, images, now=now, level=options.level, patches=options.patches,
            progress=_progress(), restored=lambda name, fault: restored.append((name, fault)),
            warn=lambda text: print(f"releasectl: warning: {text}", file=sys.stderr),
        )  # fmt: skip
    if restored:
        print(f"Release {version} was published already; what was damaged or missing of its files is made anew:")
        for name, fault in restored:
            print(f"  {name}: {fault}")
        return
    if not stored:
        print(f"Release {version} was published already, and its files are whole; nothing to do.")
        return
    report(options, f"Release {version} is published.")
    for name, each in stored.items():
        print(f"  {name}: {each}")


def _images(values: list[str]) -> dict[str, str]:
    images = pairs(values, "--component")
    for name, image in images.items():
        if not is_name(name):
            raise misuse(
                "--component", f"{name}={image}", f"{name!r} can't be the name of a component",
                "Use a lower-case letter, then letters, digits, hyphens and underscores, at most 32, such as rootfs.",
            )  # fmt: skip
    return images


def _notes(file: str | None) -> str:
    if file is None:
        return ""
    try:
        with open(file, encoding="utf-8") as text:
            return text.read(_MAX_NOTES + 1)
    except (OSError, UnicodeDecodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise UpdatedError("bad-request", f"the notes {file}", str(cause), "Name a text file.") from None


def _progress() -> Callable[[str, int, int], None]:
    if not sys.stderr.isatty():
        return lambda what, done, size: None

    def show(what: str, done: int, size: int) -> None:
        bar = "#" * (20 * done // size) if size else ""
        end = "\n" if done == size else ""
        print(f"\r{what}: [{bar:<20}] {done >> 20} of {size >> 20} MiB", end=end, file=sys.stderr, flush=True)

    return show


def _promote(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    curve = _curve(options.rollout_hours or None, options.waves)  # within no time: to all nodes at once
    minimum = Version(options.minimum) if options.minimum is not None else None
    shipping = Shipping(curve, options.barrier, minimum, options.urgent)
    now = time.time()
    with locked(options.repository):
        promotion = promote(opened(options), keys, options.channel, options.version, shipping, now=now)
    whom = waves.described(promotion.rollout, int(now))
    ended = " That ends its rollout, which was on its way." if promotion.opened else ""
    haste = ", urgently" if options.urgent else ""
    report(options, f"Channel {options.channel} ships release {options.version} to {whom}{haste}.{ended}")
    if promotion.newer:
        print(f"releasectl: {_outdone(options, promotion)}", file=sys.stderr)


def _outdone(options: argparse.Namespace, promotion: Promotion) -> str:
    newer = ", ".join(version.text for version in promotion.newer)
    version = promotion.newer[-1].text
    at = shlex.join([options.repository, "--keys", options.keys, "--channel", options.channel, "--version", version])
    rest = "" if len(promotion.newer) == 1 else ", and so on for each"
    return (
        f"warning: channel {options.channel} ships {newer} as well, and each node takes the newest that it may: "
        f"{version}, not {options.version}. "
        f'To take that away: `releasectl recall {at} --reason "WHY" --replacement {options.version}`{rest}.'
    )


def _curve(hours: float | None, steps: Curve | None) -> Curve | None:
    return waves.ramp(hours) if hours is not None else steps


def _rollout(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    curve = _curve(options.hours, options.waves)

    def change(rollout: Rollout, now: int) -> Rollout | None:
        if curve is not None:
            return waves.continued(rollout, curve, now)
        if options.all:
            return None
        return waves.paused(rollout, now) if options.pause else waves.resumed(rollout, now)

    now = time.time()
    which = (options.channel, options.version)
    with locked(options.repository):
        if options.urgent or options.as_usual:
            rollout = mark(opened(options), keys, *which, urgent=options.urgent, now=now)
        else:
            rollout = roll_out(opened(options), keys, *which, change, now=now)
    whom = waves.described(rollout, int(now)) + (", urgently" if options.urgent else "")
    report(options, f"Channel {options.channel} ships release {options.version} to {whom}.")


def _recall(options: argparse.Namespace) -> None:
    keys = key_folder(options)
    with locked(options.repository):
        now = time.time()
        instead = recall(
            opened(options), keys, options.channel, options.version, options.reason, now=now,
            replacement=options.replacement,
        )  # fmt: skip
    report(options, f"Release {options.version} is recalled from channel {options.channel}.")
    if instead is not None and instead.rollout is not None and instead.rollout.share(int(now)) < 1:
        share = percent(instead.rollout.share(int(now)))
        at = f"{options.repository} --keys {options.keys} --channel {options.channel} --version {instead.version}"
        print(
            f"releasectl: the replacement {instead.version} is for {share} of the nodes. All nodes may take it after "
            f"`releasectl rollout {at} --all`.",
            file=sys.stderr,
        )
