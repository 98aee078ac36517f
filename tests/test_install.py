"""The streaming installer: whatever the slot held, and wherever it is cut or lied to, it writes only what is signed."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.sources import Fault, WatchedSource, cut, flipped, without_ranges
from tests.releases import FRAME, Made, Repository, Window, noise, patch_table
from updated.chunkstate import ChunkStates
from updated.core.errors import UpdatedError
from updated.core.index import Chunk, Frame
from updated.core.plan import MAX_GAP_LENGTH
from updated.install import Installed, Line, Local, install
from updated.patches import read_patch
from updated.ports import Source
from updated.readback import digest
from updated.region import BLOCK, Buffer, Region
from updated.seed import Seed

TEXT = b"the same words, again and again, until they fill a stretch. "


def base_image() -> bytes:
    """Noise, zeros, text that compresses, and an end that is no multiple of anything."""
    return noise(1, 1_800_000) + bytes(800_000) + TEXT * 8000 + noise(2, 700_123)


def next_image() -> bytes:
    """The base with an edit every 40 000 bytes of its noise, something new in its middle, and its end moved."""
    image = bytearray(base_image())
    for at in range(5000, 1_800_000, 40_000):
        image[at : at + 10] = b"new bytes."
    middle = bytes(image[:1_000_000]) + noise(3, 20_480) + bytes(image[1_000_000:3_000_000])
    return middle + bytes(40_000) + bytes(image[3_000_000:]) + noise(4, 5000)


class Published:
    """Two releases: `old`, and `new` with a patch from it."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder)
        self.old = self.repository.publish(base_image())
        self.new = self.repository.publish(next_image(), self.old)

    @property
    def patch(self) -> str:
        """The name of the patch."""
        return f"blobs/{self.new.component.patches[0].blob.sha256}"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("repository"))


class Machine:
    """A node with the passive slot `slot`, and maybe a `running` one."""

    def __init__(self, folder: Path, published: Published) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.published = published
        self.plans: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        self.running: Window | None = None
        self.slot = self.has(b"")

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def has(self, content: bytes, size: int = 5_000_000) -> Window:
        """The passive slot holds `content`."""
        self.slot = self._stack.enter_context(closing(Window(self._folder / "passive", content, size)))
        return self.slot

    def runs(self, content: bytes) -> Window:
        """The running slot holds `content`."""
        self.running = self._stack.enter_context(closing(Window(self._folder / "running", content, 5_000_000)))
        return self.running

    def local(self, source: Source, made: Made, base: Made, *, patched: bool = True) -> Local:
        """What `fetch` finds of the running slot."""
        assert self.running is not None
        region = self.running.region
        chunks = made.index.root.chunk_count
        patch = read_patch(source, made.component, base.component, region, chunks) if patched else None
        return Local("1.0.0", Seed(base.index, region), patch)

    def install(
        self, fault: Fault | None = None, *, connections: int = 1, patched: bool = True, patience: int = 0,
        spent: int = 0, local: Local | None = None,
    ) -> Installed:
        """Installs the new release; the running one helps when there is one."""
        published = self.published
        self.source = WatchedSource(published.repository.folder, fault, patience=patience)
        if self.running is not None and local is None:
            local = self.local(self.source, published.new, published.old, patched=patched)
        return install(
            self.source, published.new.blob, published.new.index, self.slot.region,
            Line(connections, 0.001, 1e7, spent), lambda *step: self.steps.append(step), self.plans.append, local,
        )  # fmt: skip

    def holds_the_image(self) -> bool:
        """Whether the slot does."""
        image = self.published.new.image
        return self.slot.content(len(image)) == image

    def fails(self, fault: Fault | None = None, *, patience: int = 0) -> str:
        """The code of the error of an installation."""
        with pytest.raises(UpdatedError) as caught:
            self.install(fault, patience=patience)
        return caught.value.code

    def asked(self, name: str) -> int:
        """How many bytes of a file were asked for."""
        return sum(length for asked, _, length in self.source.asked if asked == name)


@pytest.fixture
def machine(tmp_path: Path, published: Published) -> Iterator[Machine]:
    with Machine(tmp_path, published) as made:
        yield made


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Every write of a slot."""
    found: list[tuple[int, bytes]] = []
    real = Region.write

    def watched(self: Region, start: int, data: memoryview) -> None:
        found.append((start, bytes(data)))
        real(self, start, data)

    monkeypatch.setattr(Region, "write", watched)
    return found


def frames(made: Made) -> list[Frame]:
    return list(made.index.frames())


def chunks(made: Made) -> list[Chunk]:
    return [chunk for frame in frames(made) for chunk in frame.chunks]


def data_length(made: Made) -> int:
    """The bytes of the image that are not runs of zeros."""
    return sum(chunk.length for chunk in chunks(made))


def with_damage(made: Made, hurt: list[Frame]) -> bytes:
    """The image with another byte in each of these frames."""
    return with_damage_at(made, *[frame.offset + 5 for frame in hurt])


def with_damage_at(made: Made, *places: int) -> bytes:
    """The image with another byte in these places."""
    content = bytearray(made.image)
    for at in places:
        content[at] ^= 1
    return bytes(content)


def test_a_first_installation_downloads_the_blob_and_nothing_else(machine: Machine) -> None:
    done = machine.install()
    blob = machine.published.new.component.blob.length
    assert machine.holds_the_image()
    assert (done.blob, done.patch, done.copied, done.in_place) == (blob, 0, 0, 0)
    assert done.image == len(machine.published.new.image)
    assert machine.plans == [done.plan] == [f"full: {blob / 1e6:.1f} MB"]


def test_what_is_read_back_is_the_signed_digest(machine: Machine) -> None:
    machine.install()
    image = machine.published.new.image
    assert digest(machine.slot.region, len(image), lambda *step: None) == hashlib.sha256(image).hexdigest()


def test_progress_goes_up_to_its_end(machine: Machine) -> None:
    machine.install()
    steps = [(done, total) for step, done, total in machine.steps if step == "download"]
    assert steps == sorted(steps)
    assert steps[0][0] == 0
    assert steps[-1] == (machine.published.new.component.blob.length,) * 2


def test_the_plan_counts_what_the_index_cost(machine: Machine) -> None:
    machine.install(spent=7_000_000)
    blob = machine.published.new.component.blob.length
    assert machine.plans == [f"full: {(blob + 7_000_000) / 1e6:.1f} MB"]


def test_a_foreign_slot_is_sampled_and_not_compared(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = 0
    real = Region.load

    def watched(self: Region, start: int, length: int, buffer: Buffer) -> memoryview:
        nonlocal loaded
        loaded += length
        return real(self, start, length, buffer)

    monkeypatch.setattr(Region, "load", watched)
    machine.has(noise(9, 5_000_000))
    machine.install()
    # So small an image is all sample; a second look would double it.
    assert loaded < 1.2 * data_length(machine.published.new)


def test_a_foreign_slot_is_written_once_and_its_zeros_are_discarded(
    machine: Machine, written: list[tuple[int, bytes]]
) -> None:
    machine.has(noise(9, 5_000_000))
    done = machine.install()
    zeros = sum(frame.length for frame in frames(machine.published.new) if not frame.stored)
    assert machine.holds_the_image()
    assert done.discarded == zeros > 800_000
    blocks = [block for start, data in written for block in range(start // BLOCK, (start + len(data)) // BLOCK)]
    assert len(blocks) == len(set(blocks)), "a block was written twice"


def test_an_image_that_is_in_place_is_neither_downloaded_nor_written(
    machine: Machine, written: list[tuple[int, bytes]]
) -> None:
    machine.has(machine.published.new.image)
    done = machine.install()
    assert (machine.source.asked, written) == ([], [])
    assert (done.blob, done.written, done.discarded) == (0, 0, 0)
    assert done.in_place == data_length(machine.published.new)
    assert done.plan == "all of it is on this machine, 0 bytes downloaded"


def test_an_image_that_is_in_place_is_not_written_when_the_running_one_has_it_too(
    machine: Machine, written: list[tuple[int, bytes]]
) -> None:
    machine.runs(machine.published.old.image)
    machine.has(machine.published.new.image)
    done = machine.install()
    assert (machine.source.asked, written, done.discarded) == ([], [], 0)
    assert done.in_place == data_length(machine.published.new)


def test_only_the_frames_that_miss_something_are_downloaded(machine: Machine) -> None:
    made = machine.published.new
    hurt = [frame for frame in frames(made) if frame.stored][2:9:3]
    machine.has(with_damage(made, hurt))
    done = machine.install()
    assert machine.holds_the_image()
    assert [(start, length) for _, start, length in machine.source.asked] == [
        (frame.position, frame.stored) for frame in hurt
    ]
    assert done.plan.startswith("ranges: ")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_after_a_cut_only_the_rest_is_downloaded(machine: Machine, share: float) -> None:
    made = machine.published.new
    after = int(made.component.blob.length * share)
    machine.has(noise(9, 5_000_000))
    assert machine.fails(cut(made.blob, after)) == "unreachable"
    done = machine.install()
    assert machine.holds_the_image()
    # Only the frame that was cut in two comes again.
    assert done.blob <= made.component.blob.length - after + FRAME


def test_after_many_cuts_it_gets_there(machine: Machine) -> None:
    machine.runs(machine.published.old.image)
    for _ in range(30):
        try:
            machine.install(cut(machine.published.new.blob, 150_000), patched=False)
        except UpdatedError as error:
            assert error.code == "unreachable"  # noqa: PT017  # it goes on
        else:
            break
    assert machine.holds_the_image()


def test_an_image_that_runs_already_is_copied_and_not_downloaded(machine: Machine) -> None:
    new = machine.published.new
    running = machine.runs(new.image)
    done = machine.install(local=Local("1.0.0", Seed(new.index, running.region), None))
    assert machine.holds_the_image()
    assert (machine.source.asked, done.copied) == ([], data_length(new))
    assert done.plan == "all of it is on this machine, 0 bytes downloaded"


def test_what_the_running_slot_has_is_copied_also_when_it_moved(machine: Machine) -> None:
    running = machine.runs(machine.published.old.image)
    done = machine.install(patched=False)
    known = {chunk.sha256 for chunk in chunks(machine.published.old)}
    same = sum(chunk.length for chunk in chunks(machine.published.new) if chunk.sha256 in known)
    assert machine.holds_the_image()
    assert done.copied == same > 1_500_000
    needed = sum(frame.stored for frame in frames(machine.published.new) if any(
        chunk.sha256 not in known for chunk in frame.chunks
    ))
    assert needed <= done.blob <= needed + 10_000 < machine.published.new.component.blob.length
    assert done.plan.startswith("ranges: ")
    assert running.content(len(machine.published.old.image)) == machine.published.old.image


def test_a_patch_is_used_when_the_running_image_is_its_base(machine: Machine) -> None:
    machine.runs(machine.published.old.image)
    done = machine.install()
    assert machine.holds_the_image()
    assert done.plan.startswith("delta from 1.0.0: ")
    assert (done.blob, done.patch) == (0, machine.published.new.component.patches[0].blob.length)
    assert done.patch < machine.published.new.component.blob.length // 20


def test_a_patch_that_costs_more_than_the_ranges_is_left_alone(machine: Machine) -> None:
    made = machine.published.new
    machine.runs(machine.published.old.image)
    cheap = min((frame for frame in frames(made) if frame.stored), key=lambda frame: frame.stored)
    machine.has(with_damage(made, [cheap]))
    local = machine.local(WatchedSource(machine.published.repository.folder), made, machine.published.old)
    assert local.patch is not None
    machine.running = None
    dear = dataclasses.replace(
        local.patch,
        table=type(local.patch.table).build(65536, [(2_000_000, [], [(0, len(chunks(made)))])]),
    )
    done = machine.install(local=Local("1.0.0", empty_seed(machine), dear))
    assert (done.blob, done.patch) == (cheap.stored, 0)
    assert machine.holds_the_image()


def empty_seed(machine: Machine) -> Seed:
    """The seed of a running image that has nothing of the new one."""
    return Seed(machine.published.repository.listed([]).index, machine.slot.region)


def test_of_a_patch_only_frames_that_something_is_missing_of_are_fetched(machine: Machine) -> None:
    made = machine.published.new
    machine.runs(machine.published.old.image)
    table = patch_table(machine.published.repository, made)
    assert len(table.frames) > 1
    machine.has(with_damage_at(made, chunks(made)[table.frames[-1].runs[0][0]].offset))
    done = machine.install()
    assert machine.holds_the_image()
    assert (done.blob, done.patch) == (0, table.frames[-1].stored)


def test_in_a_delta_only_blocks_that_differ_are_written(machine: Machine, written: list[tuple[int, bytes]]) -> None:
    machine.runs(machine.published.old.image)
    machine.has(machine.published.old.image)
    before, after = machine.slot.content(), machine.published.new.image
    done = machine.install()
    assert machine.holds_the_image()
    for start, data in written:
        for at in range(start, start + len(data), BLOCK):
            assert before[at : at + BLOCK] != data[at - start :][:BLOCK], f"the block at {at} was there already"
    differing = sum(before[at : at + BLOCK] != after[at : at + BLOCK] for at in range(0, len(after), BLOCK))
    assert 0 < done.written <= differing * BLOCK
    assert done.written == sum(len(data) for _, data in written)


def test_edits_in_place_write_just_the_edited_blocks(tmp_path: Path, written: list[tuple[int, bytes]]) -> None:
    (tmp_path / "repository").mkdir()
    repository = Repository(tmp_path / "repository")
    image = bytearray(base_image())
    old = repository.publish(bytes(image))
    places = [0, 70_000, 500_000, 1_799_999, 2_700_000, len(image) - 1]
    for at in places:
        image[at] ^= 1
    new = repository.publish(bytes(image), old)
    with (
        closing(Window(tmp_path / "running", old.image, 4_000_000)) as running,
        closing(Window(tmp_path / "passive", old.image, 4_000_000)) as slot,
    ):
        source = WatchedSource(repository.folder)
        patch = read_patch(source, new.component, old.component, running.region, new.index.root.chunk_count)
        local = Local("1.0.0", Seed(old.index, running.region), patch)
        line = Line(1, 0.001, 1e7)
        install(source, new.blob, new.index, slot.region, line, lambda *step: None, lambda text: None, local)
        assert slot.content(len(image)) == bytes(image)
    blocks = {start + at for start, data in written for at in range(0, len(data), BLOCK)}
    assert blocks == {at // BLOCK * BLOCK for at in places}


def test_a_damaged_running_slot_costs_only_the_chunks_concerned(machine: Machine) -> None:
    old, new = machine.published.old, machine.published.new
    running = machine.runs(old.image)
    place = Seed(old.index, running.region).find
    large = [frame for frame in frames(new) if frame.stored > 50_000]
    wanted = next(frame for frame in large if all(place(each.sha256) for each in frame.chunks)).chunks[1].sha256
    victim = next(chunk for chunk in chunks(old) if chunk.sha256 == wanted)
    hurt = running.content()[victim.offset] ^ 1
    running.change(victim.offset, bytes([hurt]))
    done = machine.install(patched=False)

    assert machine.holds_the_image()
    machine.has(b"")
    running.change(victim.offset, bytes([hurt ^ 1]))
    sound = machine.install(patched=False)
    assert sound.copied - done.copied == sum(chunk.length for chunk in chunks(new) if chunk.sha256 == victim.sha256)
    assert 0 < done.blob - sound.blob <= FRAME + MAX_GAP_LENGTH


def test_a_damaged_prefix_of_a_patch_costs_only_its_frames(machine: Machine) -> None:
    old, new = machine.published.old, machine.published.new
    running = machine.runs(old.image)
    # Chunks that the new image does not have: damage is noticed in what was made with them only.
    kept = {chunk.sha256 for chunk in chunks(new)}
    for chunk in chunks(old)[:20]:
        if chunk.sha256 not in kept:
            running.change(chunk.offset, noise(7, chunk.length))
    done = machine.install()
    assert machine.holds_the_image()
    assert done.patch == new.component.patches[0].blob.length
    assert 0 < done.blob < new.component.blob.length // 2


def test_a_running_slot_that_is_something_else_costs_a_download_and_nothing_more(machine: Machine) -> None:
    machine.runs(noise(8, 5_000_000))
    done = machine.install()
    assert machine.holds_the_image()
    assert done.copied == 0
    assert done.blob >= machine.published.new.component.blob.length * 0.99


def test_a_running_slot_that_ends_early_costs_a_download_and_nothing_more(machine: Machine) -> None:
    running = machine.runs(machine.published.old.image)
    short = Region(running.region.fd, running.region.offset, 1_000_000)
    source = WatchedSource(machine.published.repository.folder)
    local = machine.local(source, machine.published.new, machine.published.old)
    assert local.patch is not None
    local = Local("1.0.0", Seed(machine.published.old.index, short), dataclasses.replace(local.patch, base=short))
    done = machine.install(local=local)
    assert machine.holds_the_image()
    assert 0 < done.copied < 1_000_000


def test_where_the_seed_is_damaged_what_is_in_place_is_kept(machine: Machine) -> None:
    machine.runs(noise(8, 5_000_000))
    machine.has(machine.published.new.image)
    done = machine.install()
    assert (done.blob, done.patch, done.written) == (0, 0, 0)
    assert machine.holds_the_image()


def test_a_damaged_patch_costs_only_the_chunks_of_its_frame(machine: Machine) -> None:
    machine.runs(machine.published.old.image)
    last = patch_table(machine.published.repository, machine.published.new).frames[-1]
    done = machine.install(flipped(machine.published.patch, last.position + last.stored // 2))
    assert machine.holds_the_image()
    assert 0 < done.blob < machine.published.new.component.blob.length // 2


@pytest.mark.parametrize("connections", [1, 3])
def test_a_patch_that_breaks_off_costs_a_download_of_what_it_lacks(machine: Machine, connections: int) -> None:
    machine.runs(machine.published.old.image)
    table = patch_table(machine.published.repository, machine.published.new)
    after = table.frames[0].stored + 1
    done = machine.install(cut(machine.published.patch, after), connections=connections)
    assert machine.holds_the_image(), "what the patch gave before it broke off did not get into the slot"
    assert done.patch == after
    assert 0 < done.blob < machine.published.new.component.blob.length


def test_a_patch_that_is_missing_costs_a_download_and_nothing_more(machine: Machine) -> None:
    machine.runs(machine.published.old.image)

    def gone(name: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        if name == machine.published.patch:
            raise UpdatedError("not-found", name, "is not there", "Publish it again.")
        yield from pieces

    done = machine.install(gone)
    assert machine.holds_the_image()
    assert done.patch == 0 < done.blob


@pytest.mark.parametrize("fault", [lambda name: flipped(name, 30), lambda name: cut(name, 10)])
def test_a_table_that_can_not_be_had_makes_it_ranges(machine: Machine, fault: Callable[[str], Fault]) -> None:
    machine.runs(machine.published.old.image)
    table = machine.published.new.component.patches[0].table
    done = machine.install(fault(f"blobs/{table.sha256}"))
    assert machine.holds_the_image()
    assert done.plan.startswith("ranges: ")


def test_a_patch_for_another_base_is_not_even_asked_for(machine: Machine) -> None:
    machine.runs(machine.published.old.image)
    source = WatchedSource(machine.published.repository.folder)
    other = dataclasses.replace(machine.published.old.component, sha256="ab" * 32)
    assert read_patch(source, machine.published.new.component, other, machine.slot.region, 10**6) is None
    assert (source.reads, source.asked) == ([], [])


def test_a_patch_whose_table_tells_of_another_file_is_left_alone(machine: Machine) -> None:
    component = machine.published.new.component
    info = component.patches[0]
    longer = dataclasses.replace(info, blob=dataclasses.replace(info.blob, length=info.blob.length + 1))
    source = WatchedSource(machine.published.repository.folder)
    component = dataclasses.replace(component, patches=(longer,))
    assert read_patch(source, component, machine.published.old.component, machine.slot.region, 10**6) is None


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_damage_in_the_only_source_is_an_error_and_nothing_of_it_is_written(machine: Machine, share: float) -> None:
    made = machine.published.new
    before = machine.slot.content()
    place = int(made.component.blob.length * share)
    assert machine.fails(flipped(made.blob, place)) == "wrong-digest"
    [(name, position)] = machine.source.blamed
    frame = next(frame for frame in frames(made) if frame.position == position)
    assert (name, frame.position <= place < frame.position + frame.stored) == (made.blob, True)
    now = machine.slot.content()
    assert now[frame.offset :][: frame.length] != made.image[frame.offset :][: frame.length]
    for at in range(0, len(made.image), 512):
        sector = slice(at, at + 512)
        if now[sector] not in (before[sector], made.image[sector]):
            mixed = zip(now[sector], before[sector], made.image[sector], strict=False)
            assert all(byte in (there, signed) for byte, there, signed in mixed), f"at {at} is what is not signed"


def test_a_blob_that_ends_early_is_an_error(machine: Machine) -> None:
    def shortened(name: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield from list(pieces)[:-1]

    assert machine.fails(shortened) == "truncated"


@pytest.mark.parametrize("times", [1, 3])
def test_what_one_place_has_damaged_comes_from_another(machine: Machine, times: int) -> None:
    made = machine.published.new
    place = made.component.blob.length // 2
    done = machine.install(flipped(made.blob, place, times), patience=times)
    assert machine.holds_the_image()
    assert len(machine.source.blamed) == times
    assert done.blob <= made.component.blob.length + times * FRAME


def test_places_that_are_all_damaged_do_not_hold_it_up_for_ever(machine: Machine) -> None:
    made = machine.published.new
    assert machine.fails(flipped(made.blob, 5), patience=10**6) == "wrong-digest"


@pytest.mark.parametrize("patched", [True, False])
def test_from_a_server_without_ranges_the_blob_comes_in_one_stream(machine: Machine, patched: bool) -> None:
    made = machine.published.new
    hurt = next(frame for frame in frames(made) if frame.position > 500_000)
    machine.has(with_damage(made, [hurt]))
    machine.runs(machine.published.old.image)
    done = machine.install(without_ranges, patched=patched)
    assert machine.holds_the_image()
    if done.blob:
        assert machine.source.asked[-1][:2] == (made.blob, 0)
        assert done.blob <= hurt.position + hurt.stored + 1000, "it reads on behind the last byte that it needs"


def test_a_patch_that_can_not_be_asked_for_in_ranges_costs_one_stream_of_the_blob(machine: Machine) -> None:
    made = machine.published.new
    machine.runs(machine.published.old.image)
    last = patch_table(machine.published.repository, made).frames[-1]
    machine.has(with_damage_at(made, chunks(made)[last.runs[0][0]].offset))
    machine.install(without_ranges)
    assert machine.holds_the_image()
    names = [name for name, _, _ in machine.source.asked]
    assert names == [machine.published.patch, made.blob]


def test_without_ranges_a_damaged_running_slot_is_made_good_too(machine: Machine) -> None:
    running = machine.runs(machine.published.old.image)
    for at in range(0, 1_500_000, 200_000):
        running.change(at, b"damage")
    machine.install(without_ranges, patched=False, connections=3)
    assert machine.holds_the_image()


def test_a_thread_that_holds_the_states_sees_what_another_changes(published: Published) -> None:
    states = ChunkStates(published.new.index)
    held = states.states
    held[0] = 3
    states.replace(0, 2)
    assert set(held[1:]) == {2}
    assert states.states is held


def test_an_image_that_does_not_fit_is_refused_before_a_byte_is_asked_for_or_written(machine: Machine) -> None:
    machine.has(b"old", len(machine.published.new.image) - 1)
    assert machine.fails() == "image-too-large"
    assert machine.source.asked == []
    assert machine.slot.content(3) == b"old"


def test_an_image_may_fill_its_slot_to_the_last_byte(machine: Machine) -> None:
    machine.has(noise(9, 5_000_000), len(machine.published.new.image))
    machine.install()
    assert machine.holds_the_image()


def test_behind_the_image_the_slot_stays_as_it_was(machine: Machine) -> None:
    before = noise(9, 5_000_000)
    machine.has(before)
    machine.install()
    size = len(machine.published.new.image)
    assert machine.slot.content()[size:] == before[size:]


def test_several_connections_download_at_once(machine: Machine) -> None:
    made = machine.published.new
    machine.has(with_damage(made, [frame for frame in frames(made) if frame.stored][::2]))
    barrier, arrivals = threading.Barrier(3), iter(range(3))

    def meeting(name: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        if next(arrivals, None) is not None:
            barrier.wait(timeout=20)
        yield from pieces

    machine.install(meeting, connections=3)
    assert machine.holds_the_image()
    assert len(machine.source.asked) > 3


def test_one_connection_is_one_stream_at_a_time(machine: Machine) -> None:
    most = open_streams = 0

    def counted(name: str, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal most, open_streams
        open_streams += 1
        most = max(most, open_streams)
        try:
            yield from pieces
        finally:
            open_streams -= 1

    made = machine.published.new
    machine.has(with_damage(made, [frame for frame in frames(made) if frame.stored][::2]))
    machine.install(counted)
    assert most == 1
    assert len(machine.source.asked) > 1


def test_a_slot_that_can_not_be_written_ends_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Region, start: int, data: memoryview) -> None:
        raise UpdatedError("disk-error", "the slot", "Input/output error", "Replace it.")

    machine.runs(machine.published.old.image)
    monkeypatch.setattr(Region, "write", fail)
    assert machine.fails() == "disk-error"


parts = st.lists(
    st.tuples(st.sampled_from(("noise", "text", "zeros", "shared")), st.integers(1, 60_000), st.integers(0, 3)),
    max_size=8,
)


def assembled(plan: list[tuple[str, int, int]]) -> bytes:
    """An image of such parts; shared ones are the same wherever they stand."""
    shared = noise(77, 60_000)
    made = {
        "noise": lambda length, seed: noise(seed, length), "text": lambda length, seed: (TEXT * 1001)[:length],
        "zeros": lambda length, seed: bytes(length), "shared": lambda length, seed: shared[:length],
    }
    return b"".join(made[kind](length, seed) for kind, length, seed in plan)


@settings(max_examples=100)
@given(
    old=parts, new=parts.filter(bool), held=st.none() | parts, spoiled=st.booleans(), ranges=st.booleans(),
    margin=st.sampled_from((0, 7, BLOCK)), extra=st.sampled_from((0, 1, BLOCK, 100_000)), connections=st.integers(1, 3),
)  # fmt: skip
def test_whatever_ran_and_whatever_the_slot_held_it_holds_the_image_then(
    tmp_path_factory: pytest.TempPathFactory, old: list[tuple[str, int, int]], new: list[tuple[str, int, int]],
    held: list[tuple[str, int, int]] | None, spoiled: bool, margin: int, extra: int, connections: int, ranges: bool,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    repository = Repository(folder)
    first = repository.publish(assembled(old) or b"x")
    second = repository.publish(assembled(new), first)
    image = second.image
    passive = image if held is None else assembled(held)
    with (
        closing(Window(folder / "running", first.image, len(first.image), margin)) as running,
        closing(Window(folder / "passive", passive, len(image) + extra, margin)) as slot,
    ):
        if spoiled:
            running.change(len(first.image) // 2, noise(5, min(5000, len(first.image) // 2)))
        behind = slot.content()[len(image) :]
        source = WatchedSource(folder, None if ranges else without_ranges)
        patch = read_patch(
            source, second.component, first.component, running.region, second.index.root.chunk_count
        )
        done = install(
            source, second.blob, second.index, slot.region, Line(connections, 0.001, 1e7), lambda *step: None,
            lambda text: None, Local("1.0.0", Seed(first.index, running.region), patch),
        )  # fmt: skip
        assert slot.content() == image + behind
        assert done.image == len(image)
        if held is None:
            assert (done.written, done.discarded, done.blob) == (0, 0, 0)
