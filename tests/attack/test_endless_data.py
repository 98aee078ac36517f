"""Endless data: a server that never stops sends a bounded amount, and the node says which file had no end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attack.signing import ONLINE
from tests.attack.world import Workshop, World, blobs_of
from tests.attack.world import world as make_world
from tests.http.server import Answer, Handler, body, redirect

MOST = 64_000_000
"""Where a test ends what has no end, so that a node without limits fails instead of the machine."""
BUFFERED = 16_000_000
"""More than what a node accepts of any file, and what the buffers of two sockets hold."""
PIECE = bytes(64 * 1024)


class Endless:
    """Answers without end, after `first`; `sent` is what the node let them send, in bytes.

    `length`: whether the head promises a length, which is huge.
    """

    def __init__(self, *, length: bool = False) -> None:
        self.length = length
        self.sent = 0

    def __call__(self, first: bytes) -> Answer:
        def answer(handler: Handler) -> None:
            handler.close_connection = True
            headers = {"Content_Length": 10**15} if self.length else {"Connection": "close"}
            handler.head(200, **headers)
            handler.wfile.write(first)
            while self.sent < MOST:
                handler.wfile.write(PIECE)
                self.sent += len(PIECE)

        return answer


@pytest.fixture(scope="module")
def shipping(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The publisher ships 1.1.0; a node from the factory needs each of the files."""
    with make_world(workshop, tmp_path_factory.mktemp("endless"), known=False) as made:
        made.publisher.rotate_key("root")
        made.ship("1.0.0", "1.1.0")
        yield made


@pytest.fixture
def shared(shipping: World) -> World:
    """The node, as if it had never asked before."""
    shipping.end_attack()
    shipping.node.forget()
    shipping.mirror.asked.clear()
    return shipping


FILES = (
    "metadata/2.root.json", "metadata/timestamp.json", "metadata/*.snapshot.json", "metadata/*.targets.json",
    "metadata/*.stable.json", "targets/channels/*.stable.json", "targets/releases/*.1.1.0.json", "an index",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_end_is_refused_and_named(shared: World, name: str) -> None:
    index = blobs_of(shared.workshop.manifest("1.1.0"))[0]
    endless = Endless()
    shared.mirror.lies[index if name == "an index" else name] = endless
    shared.node.refuses("too-long", index if name == "an index" else name.rpartition("*")[2])
    assert endless.sent <= BUFFERED


def test_a_file_that_promises_to_be_huge_is_refused(shared: World) -> None:
    endless = Endless(length=True)
    shared.mirror.lies["metadata/timestamp.json"] = endless
    shared.node.refuses_untouched("too-long", "metadata/timestamp.json: has more than the 16384 bytes")
    assert endless.sent <= BUFFERED


def test_a_body_that_unpacks_without_end_is_not_unpacked(shared: World) -> None:
    shared.mirror.lies["metadata/timestamp.json"] = lambda true: body(true, Content_Encoding="gzip")
    shared.node.refuses_untouched("encoded", "timestamp.json")


def test_redirects_without_end_are_not_followed(shared: World) -> None:
    shared.mirror.lies["metadata/timestamp.json"] = lambda true: redirect("/metadata/timestamp.json")
    shared.node.refuses_untouched("bad-redirect", "after more than 3 redirects")
    assert shared.mirror.asked.count("metadata/timestamp.json") == 4


def test_a_root_for_each_version_is_followed_to_an_end(shared: World) -> None:
    """Only who has the keys of the root can make such a chain; one file under each name is none."""
    root = shared.mirror.content("metadata/1.root.json") or b""
    shared.mirror.replace("metadata/*.root.json", root)
    shared.node.refuses_untouched("metadata-rolled-back", "metadata/2.root.json")
    assert len(shared.mirror.asked) == 1


def test_what_comes_after_an_image_is_left_unread(shared: World) -> None:
    """The bytes that were asked for are right, so the update succeeds."""
    endless = Endless()

    def lie(true: bytes) -> Answer:
        def answer(handler: Handler) -> None:
            first, last = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
            handler.close_connection = True
            handler.head(206, Content_Range=f"bytes {first}-{last}/{len(true)}", Connection="close")
            handler.wfile.write(true[first : last + 1])
            while endless.sent < MOST:
                handler.wfile.write(PIECE)
                endless.sent += len(PIECE)

        return answer

    shared.mirror.lies[blobs_of(shared.workshop.manifest("1.1.0"))[1]] = lie
    shared.node.updates()
    assert endless.sent <= BUFFERED


@pytest.mark.parametrize(("role", "stolen"), [("snapshot", ("timestamp",)), ("targets", ONLINE), ("stable", ONLINE)])
def test_a_length_that_a_thief_signed_does_not_lift_the_limit(world: World, role: str, stolen: tuple[str, ...]) -> None:
    thief = world.thief(*stolen)
    meta = thief._meta

    def lie(of: str) -> object:
        info = meta(of)
        if of == role:
            info.version, info.length, info.hashes = info.version + 1, 10**15, None
        return info

    thief._meta = lie  # type: ignore[assignment,method-assign]
    world.attack(thief)
    endless = Endless()
    world.mirror.lies[f"metadata/*.{role}.json"] = endless
    world.node.refuses_untouched("too-long", f"{role}.json")
    assert endless.sent <= BUFFERED


