"""Release and channel manifests: what is formatted is parsed back; what does not fit is one typed error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import channels, components, entries, names, patches, releases, versions
from updated.core.errors import UpdatedError
from updated.core.release import (
    Blob,
    Channel,
    ChannelEntry,
    Component,
    PatchInfo,
    Recall,
    Release,
    channel_target,
    is_name,
    release_target,
)
from updated.core.version import Version

DIGEST = "ab" * 32
PART = {"sha256": DIGEST, "length": 7}
PATCH = {"base": DIGEST, "table": PART, "blob": PART, "index": PART}
RELEASE: dict[str, Any] = {
    "schema": 1, "version": "1.2.0", "compatible": "box", "built": "2026-01-01T00:00:00Z",
    "components": {"rootfs": {"size": 9, "sha256": DIGEST, "index": PART, "blob": PART, "patches": [PATCH]}},
}
CHANNEL: dict[str, Any] = {"schema": 1, "channel": "stable", "releases": [{"version": "1.2.0", "manifest": DIGEST}]}
BEFORE = "2025-12-31T23:59:59Z"
PARSERS: list[Callable[[bytes], object]] = [Release.parse, Channel.parse]


def rollout(*points: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    curve = [{"seconds": seconds, "share": share} for seconds, share in points]
    return {"start": "2026-01-01T00:00:00Z", "curve": curve, **more}


@given(releases)
def test_a_release_manifest_is_parsed_back(release: Release) -> None:
    again = Release.parse(release.format())
    assert again == release
    assert again.format() == release.format()


@given(channels)
def test_a_channel_manifest_is_parsed_back(channel: Channel) -> None:
    again = Channel.parse(channel.format())
    assert again == channel
    assert again.format() == channel.format()


@given(channels, entries)
def test_an_entry_takes_the_place_of_the_one_of_its_version(channel: Channel, entry: ChannelEntry) -> None:
    changed = channel.with_entry(entry)
    assert entry in changed.entries
    assert Channel.parse(changed.format()) == changed
    assert [each for each in changed.entries if each.version != entry.version] == [
        each for each in channel.entries if each.version != entry.version
    ]


def cause(parse: Callable[[bytes], object], data: bytes) -> str:
    with pytest.raises(UpdatedError) as caught:
        parse(data)
    assert caught.value.code == "manifest-invalid"
    return caught.value.cause


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary(max_size=100))
def test_garbage_is_one_typed_error(parse: Callable[[bytes], object], data: bytes) -> None:
    cause(parse, data)


junk: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(([], {}))
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, part in inner for place in places(part, (*path, key))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    part = copy
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = new
    return copy


@pytest.mark.parametrize(("parse", "whole"), [(Release.parse, RELEASE), (Channel.parse, CHANNEL)])
@given(data=st.data())
def test_a_field_that_holds_something_else_is_one_typed_error_or_fits(
    parse: Callable[[bytes], object], whole: dict[str, Any], data: st.DataObject
) -> None:
    spoiled = changed(whole, data.draw(st.sampled_from(places(whole))), data.draw(junk))
    try:
        parse(json.dumps(spoiled).encode())
    except UpdatedError as error:
        if error.code != "manifest-invalid":
            raise


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("schema",), 2, "schema is 2, and this program knows only 1"),
        (("version",), "latest", "version is not a version"),
        (("compatible",), "a\nb", "compatible is not a plain name"),
        (("components",), {}, "components is empty"),
        (("components", "../x"), {}, "is not a name"),
        (("components", "rootfs", "size"), 0, "components.rootfs.size is not between 1 and"),
        (("components", "rootfs", "sha256"), DIGEST.upper(), "components.rootfs.sha256 is not a SHA-256 digest"),
        (("components", "rootfs", "blob", "length"), -1, "components.rootfs.blob.length is not between"),
        (("components", "rootfs", "blob", "length"), True, "components.rootfs.blob.length is not a whole number"),
        (("components", "rootfs", "url"), "http://elsewhere", "components.rootfs.url is not a known key"),
        (("components", "rootfs", "patches", 0, "base"), "x", "rootfs.patches[0].base is not a SHA-256 digest"),
        (("components", "rootfs", "patches", 0, "table"), None, "rootfs.patches[0].table is not an object"),
        (("components", "rootfs", "patches", 0, "index", "length"), "7", "index.length is not a whole number"),
        (("components", "rootfs", "patches", 0, "from"), "1.0", "patches[0].from is not a known key"),
        (("built",), 5, "built is not a time"),
        (("extra",), 1, "extra is not a known key"),
    ],
)
def test_a_wrong_release_manifest_is_told_by_its_field(path: tuple[str, ...], value: object, words: str) -> None:
    assert words in cause(Release.parse, json.dumps(changed(RELEASE, path, value)).encode())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("channel",), "Stable", "channel is not a name"),
        (("releases", 0, "manifest"), "x", "releases[0].manifest is not a SHA-256 digest"),
        (("releases", 0, "rollout"), {"start": "2026-01-01T00:00:00Z"}, "releases[0].rollout.curve is missing"),
        (("releases", 0, "rollout"), rollout(), "releases[0].rollout.curve is empty"),
        (("releases", 0, "rollout"), rollout((-1, 1)), "rollout.curve[0].seconds is not between"),
        (("releases", 0, "rollout"), rollout((0, 1.5)), "rollout.curve[0].share is not between 0 and 1"),
        (("releases", 0, "rollout"), rollout((0, 10**400)), "rollout.curve[0].share is not between 0 and 1"),
        (("releases", 0, "rollout"), rollout((0, "1")), "rollout.curve[0].share is not a number"),
        (("releases", 0, "rollout"), rollout((5, 0), (4, 1)), "rollout.curve goes back in time or share"),
        (("releases", 0, "rollout"), rollout((4, 1), (5, 0.9)), "rollout.curve goes back in time or share"),
        (("releases", 0, "rollout"), rollout((0, 1), paused=BEFORE), "rollout.paused is before the start"),
        (("releases", 0, "rollout"), rollout((0, 1), end=1), "rollout.end is not a known key"),
        (("releases", 0, "recalled"), {"reason": "", "replacement": "x"}, "recalled.replacement is not a version"),
        (("releases", 0, "recalled"), {"reason": "", "replacement": "1.1"}, "has 1.1 for 1.2.0, and no such older"),
        (("releases", 0, "recalled"), {"reason": "", "replacement": "1.2"}, "has 1.2 for 1.2.0, and no such older"),
        (("releases", 0, "recalled"), {"reason": "a\x1b[2Jb"}, "releases[0].recalled.reason holds control characters"),
        (("releases", 0, "deadend"), "x" * 1001, "releases[0].deadend is longer than 1000"),
        (("releases", 0, "minimum"), "x", "releases[0].minimum is not a version"),
        (("releases", 0, "urgent"), 1, "releases[0].urgent is not true or false"),
        (("releases", 0, "wave"), 1, "releases[0].wave is not a known key"),
        (("releases",), [{"version": "2", "manifest": DIGEST}, {"version": "1", "manifest": DIGEST}], "ascending"),
        (("releases",), [{"version": "1", "manifest": DIGEST}, {"version": "1.0", "manifest": DIGEST}], "ascending"),
        (("releases",), [1], "releases is not a list of objects"),
    ],
)
def test_a_wrong_channel_manifest_is_told_by_its_field(path: tuple[str, ...], value: object, words: str) -> None:
    assert words in cause(Channel.parse, json.dumps(changed(CHANNEL, path, value)).encode())


def test_a_channel_without_urgent_releases_can_be_read_by_nodes_that_do_not_know_the_key() -> None:
    usual = ChannelEntry(Version("1.0"), DIGEST)
    assert b"urgent" not in Channel("stable", (usual,)).format()
    assert b'"urgent": true' in Channel("stable", (replace(usual, urgent=True),)).format()


@given(st.lists(patches, unique_by=lambda patch: patch.base, max_size=4).map(tuple), components)
def test_a_patch_is_the_one_from_just_that_image(offered: tuple[PatchInfo, ...], base: Component) -> None:
    part = Component(1, DIGEST, Blob(DIGEST, 7), Blob(DIGEST, 7), offered)
    assert part.patch_from(replace(base, sha256=DIGEST)) is None
    for patch in offered:
        assert part.patch_from(replace(base, sha256=patch.base)) == patch


@given(names)
def test_targets_stay_in_their_folder(name: str) -> None:
    assert is_name(name)
    assert channel_target(name) == f"channels/{name}.json"
    assert release_target("1.0-rc.1") == "releases/1.0-rc.1.json"


@pytest.mark.parametrize("text", ["", "A", "1a", "a/b", "..", "a.b", "a\n", "a" * 33, "ä"])
def test_what_is_no_name_can_not_become_a_path(text: str) -> None:
    assert not is_name(text)


def test_what_replaces_a_recalled_release_is_followed_to_the_end() -> None:
    channel = Channel.parse(json.dumps({**CHANNEL, "releases": [
        {"version": "1.2", "manifest": DIGEST},
        {"version": "1.3", "manifest": DIGEST, "recalled": {"reason": "slow", "replacement": "1.2.0"}},
        {"version": "1.4", "manifest": DIGEST},
        {"version": "1.5", "manifest": DIGEST, "recalled": {"reason": "burns", "replacement": "1.3"}},
    ]}).encode())
    assert {text: channel.standing(Version(text)).text for text in ("1.2", "1.3", "1.4", "1.5", "9")} == {
        "1.2": "1.2", "1.3": "1.2.0", "1.4": "1.4", "1.5": "1.2.0", "9": "9",
    }


@given(st.lists(st.tuples(versions, versions), max_size=6, unique_by=lambda pair: pair[0]), versions)
def test_replacements_never_go_in_circles(recalls: list[tuple[Version, Version]], version: Version) -> None:
    made = [ChannelEntry(each, DIGEST, recalled=Recall("", instead)) for each, instead in recalls]
    Channel("stable", tuple(sorted(made, key=lambda entry: entry.version))).standing(version)


@given(channels, versions)
def test_what_stands_in_is_never_newer(channel: Channel, version: Version) -> None:
    assert channel.standing(version) <= version


def test_the_version_keeps_the_form_that_names_its_file() -> None:
    release = Release.parse(json.dumps(changed(RELEASE, ("version",), "1.2")).encode())
    assert release.version == Version("1.2.0")
    assert release.version.text == "1.2"
