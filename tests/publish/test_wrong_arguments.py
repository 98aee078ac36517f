"""A wrong command line is told apart from what the repository refuses, and its message shows a right one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.publish.test_releasectl import STABLE, Run, adding, image, published, releasectl

__all__ = ["image", "releasectl"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "required: VERB. 'releasectl --help' says what there is."),
        ("key", "required: VERB. 'releasectl key --help' says what there is."),
        ("ad", "the verb 'ad': is not known. Did you mean add?"),
        ("key rotat repository", "the verb 'rotat': is not known. Did you mean rotate?"),
        ("xyzzy", "the verb 'xyzzy': is not known. 'releasectl --help' says what there is."),
        ("status repository --jsno", "the option '--jsno': is not known. Did you mean --json?"),
        ("status repository keys", "the argument 'keys': is one too many. 'releasectl status --help' says"),
        ("add repository", "required: --keys, --version, --compatible, --component. 'releasectl add --help' says"),
        ("rollout repository --keys keys --channel stable --version 1.0.0", "one of the arguments --hours --waves "),
        ("rollout r --keys keys --channel stable --version 1 --pause --all", "--all: not allowed with argument"),
    ],
)
def test_wrong_usage_is_status_2_and_one_line_that_says_what_may_have_been_meant(
    releasectl: Run, arguments: str, told: str
) -> None:
    code, out, error = releasectl(*arguments.split())
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("releasectl: the ")
    assert told in error


@pytest.mark.parametrize(
    ("verb", "arguments", "told"),
    [
        ("add", ["--version", "v1.5.0"], "--version v1.5.0: is not a version. * such as 1.4.0 or 1.4.0-rc.1."),
        ("add", ["--version", ""], "--version '': is not a version. * such as 1.4.0 or 1.4.0-rc.1."),
        ("add", ["--component", "1.5.0.img"],
         "--component 1.5.0.img: is not NAME=IMAGE. Write it so: --component rootfs=1.5.0.img."),
        ("add", ["--component", "rootfs="], "--component rootfs=: is not NAME=IMAGE. * rootfs=1.5.0.img."),
        ("add", ["--component", "rootfs=x", "--component", "rootfs=y"],
         "--component rootfs=y: gives rootfs a second time. Write rootfs once, such as --component rootfs=x."),
        ("add", ["--component", "ro ot=x"],
         "--component 'ro ot=x': 'ro ot' can't be the name of a component. * such as rootfs."),
        ("add", ["--compatible", "de\nmo"],
         r"--compatible 'de\nmo': can't be the name of a kind of machine. * such as example-board-v1."),
        ("add", ["--compatible", "de\udcffmo"], r"--compatible 'de\udcffmo': can't be the name of a kind of machine*"),
        ("promote", ["--version", "one"], "--version one: is not a version. *"),
        ("promote", ["--waves", "10,20"], "--waves 10,20: has '10', which is no wave. * so: 1%,10%@24h,100%@3d *"),
        ("promote", ["--rollout-hours", "-3"], "--rollout-hours -3: is less than 0. * such as 48 or 1.5."),
        ("promote", ["--rollout-hours", "2d"], "--rollout-hours 2d: is no number. * such as 48 or 1.5."),
        ("promote", ["--minimum", "1.x"], "--minimum 1.x: is not a version. *"),
        ("rollout", ["--hours", "9000"], "--hours 9000: is more than a year. * such as 48 or 1.5."),
        ("rollout", ["--waves", ""], "--waves '': has '', which is no wave. *"),
        ("recall", ["--reason", "slow", "--replacement", "old"], "--replacement old: is not a version. *"),
        ("recall", ["--reason", " "], "the reason: is empty. Say why, *"),
        ("serve", ["--listen", "8080"], "--listen 8080: is not HOST:PORT. Name an address such as 127.0.0.1:8080."),
        ("init", ["--channels", "stable,stable"], "the channel 'stable': is there twice. *"),
        ("init", ["--channels", "Stable"], "the channel 'Stable': can't be the name of a channel. *"),
        ("init", ["--lifetime", "stable"], "--lifetime stable: is not ROLE=DAYS. * --lifetime timestamp=7."),
        ("init", ["--lifetime", "stable=long"], "--lifetime stable=long: 'long' is no number. *"),
        ("init", ["--lifetime", "stable=0"], "the lifetime stable=0: is not from 1 to 36500 days. * as stable=90."),
        ("init", ["--threshold", "stabel=1"], "the role 'stabel': is not there. Name one of root, *"),
        ("key", ["list"], "key list: has nothing to show. *"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_status_2_and_one_line_that_names_it_and_a_right_one(
    releasectl: Run, image: str, verb: str, arguments: list[str], told: str
) -> None:
    published(releasectl, image)
    assert releasectl("promote", *STABLE, "--version", "1.0.0", "--waves", "1%")[0] == 0
    before = Path("repository/metadata/timestamp.json").read_bytes()
    version = [] if "--version" in arguments else ["--version", "1.0.0"]
    given = {
        "add": adding(image, arguments), "init": ["new", "--keys", "new-keys", *arguments], "key": arguments,
        "serve": ["repository", *arguments],
    }.get(verb, [*STABLE, *version, *arguments])  # fmt: skip
    code, out, error = releasectl(verb, *given)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert re.fullmatch(".*".join(map(re.escape, f"releasectl: {told}".split("*"))), error.rstrip("\n"))
    assert Path("repository/metadata/timestamp.json").read_bytes() == before
    assert not Path("new").exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["status", ""], "the repository: the path is empty. Name one, such as /srv/updates."),
        (["refresh", "repository", "--keys", ""], "--keys: the path is empty"),
        (["verify", "file:///srv/updates"], "file:///srv/updates: is a URL, and has to be a path. Write /srv/updates."),
        (["init", "file:///srv/updates", "--keys", "new"], "is a URL, and has to be a path. Write /srv/updates."),
        (["init", "new", "--keys", "file:///keys"], "--keys file:///keys: is a URL, and has to be a path. Write /"),
        (["refresh", "https://example.org/updates", "--keys", "keys"], "a path of this machine"),
        (["serve", "file:///srv/updates"], "is a URL, and has to be a path. Write /srv/updates."),
        (["mirror", "", "mirror"], "the source: is empty. Name the URL or the folder of a repository."),
        (["mirror", "repository", "file:///srv/mirror"], "is a URL, and has to be a path. Write /srv/mirror."),
        (["mirror", "repository", "mirror", "--bandwidth-limit", "-1"], "--bandwidth-limit -1: is less than 0"),
    ],
)  # fmt: skip
def test_what_can_be_no_path_is_status_2_and_nothing_is_made(
    releasectl: Run, image: str, tmp_path: Path, arguments: list[str], part: str
) -> None:
    published(releasectl, image)
    before = sorted(os.listdir(tmp_path))
    code, out, error = releasectl(*arguments)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert part in error
    assert sorted(os.listdir(tmp_path)) == before
