"""Values of the core for property tests."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from bootctl.model import BootView, SlotState
from updated.core.errors import CODES, UpdatedError
from updated.core.expiry import Expiry
from updated.core.installed import COSTS, LastInstall
from updated.core.release import Blob, Channel, ChannelEntry, Component, PatchInfo, Recall, Release
from updated.core.rollout import Curve, Place, Rollout
from updated.core.selection import Reason
from updated.core.state import BootFacts, Denial, Fallback, Hold, Offer, Phase, State, Target
from updated.core.surroundings import Grace, Inhibitor, Login, Surroundings
from updated.core.version import Version

LATEST = 253402300799
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True)
versions = st.lists(st.integers(0, 999), min_size=1, max_size=4).map(lambda parts: Version(".".join(map(str, parts))))
epochs = st.integers(0, LATEST)
lines = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs")), max_size=30)
surroundings = st.builds(
    Surroundings,
    st.lists(st.builds(Inhibitor, lines, lines), max_size=5).map(tuple),
    st.lists(st.builds(Login, lines, lines), max_size=5).map(tuple), st.booleans(), st.booleans(),
)
blobs = st.builds(Blob, digests, st.integers(0, 2**44))
patches = st.builds(PatchInfo, digests, blobs, blobs, st.none() | blobs)
components = st.builds(
    Component, st.integers(1, 2**44), digests, blobs, blobs, st.lists(patches, max_size=2).map(tuple)
)
compatibles = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,127}", fullmatch=True)
releases = st.builds(
    Release, versions, compatibles, epochs, st.dictionaries(names, components, min_size=1, max_size=3),
    st.text(st.characters(codec="utf-8"), max_size=50),
)


@st.composite
def curves(draw: st.DrawFn, most: int = 366 * 86400) -> Curve:
    """Ramps, steps and rests, in seconds up to `most`."""
    times = draw(st.lists(st.integers(0, most), min_size=1, max_size=6))
    share = st.floats(0, 1) | st.sampled_from((0.0, 0.01, 0.1, 1.0))
    shares = draw(st.lists(share, min_size=len(times), max_size=len(times)))
    return tuple(zip(sorted(times), sorted(shares), strict=True))


@st.composite
def _rollouts(draw: st.DrawFn) -> Rollout:
    start = draw(epochs)
    pause = draw(st.none() | st.integers(start, min(start + 366 * 86400, LATEST)))
    return Rollout(start, draw(curves()), pause)


rollouts = _rollouts()
places = st.builds(Place, st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 1))
entries = st.builds(
    ChannelEntry, versions, digests, st.none() | rollouts, st.booleans(), st.none() | lines,
    st.none() | st.builds(Recall, lines), st.none() | versions, st.booleans(),
)


@st.composite
def _channels(draw: st.DrawFn) -> Channel:
    members = draw(st.lists(entries, max_size=5, unique_by=lambda entry: entry.version))
    ordered = sorted(members, key=lambda entry: entry.version)
    replaced = [entry for entry in ordered[1:] if entry.recalled is not None and draw(st.booleans())]
    for entry in replaced:
        assert entry.recalled is not None
        place = ordered.index(entry)
        older = ordered[draw(st.integers(0, place - 1))].version
        ordered[place] = replace(entry, recalled=replace(entry.recalled, replacement=older))
    return Channel(draw(names), tuple(ordered))


channels = _channels()

slot_states = st.builds(SlotState, st.integers(0, 15), st.integers(0, 15), st.booleans())
facts = st.builds(
    lambda slot, version, boot, a, b: BootFacts(slot, version, boot, BootView((("a", a), ("b", b)))),
    st.sampled_from("ab"), lines, lines, slot_states, slot_states,
)
errors = st.builds(UpdatedError, st.sampled_from(sorted(CODES)), lines, lines, lines)
_costs = st.fixed_dictionaries({"plan": lines, **dict.fromkeys(COSTS, st.integers(0, 2**44))})
states = st.builds(
    State,
    facts=facts, channel=names, seed=st.floats(0, 1, exclude_max=True), phase=st.sampled_from(Phase),
    target=st.none() | st.builds(
        Target, lines, digests, st.sampled_from("ab"), st.integers(0, 15), st.integers(0, 9), lines,
        st.booleans(), epochs, epochs,
    ),
    offer=st.none() | st.builds(Offer, lines, digests, st.integers(0, 2**44), st.booleans()),
    insist=st.booleans(),
    reasons=st.lists(st.builds(Reason, lines, lines, st.none() | epochs), max_size=3).map(tuple),
    error=st.none() | errors, failures=st.integers(0, 1000), next_check=epochs, last_check=st.none() | epochs,
    hold=st.none() | st.builds(Hold, lines, st.none() | epochs),
    denied=st.lists(st.builds(Denial, lines, digests, lines, epochs), max_size=3).map(tuple),
    fallback=st.none() | st.builds(Fallback, lines, lines, epochs, lines),
    versions=st.dictionaries(st.sampled_from("ab"), lines), judged=lines,
    manifests=st.dictionaries(st.sampled_from("ab"), digests), leaving=st.sampled_from(("", "a", "b")),
    failing=st.just("") | digests, since=epochs, highest=st.just("") | versions.map(str), importing=st.booleans(),
    expiries=st.dictionaries(names, st.builds(Expiry, epochs, st.none() | epochs, st.booleans()), max_size=2),
    recalled=st.dictionaries(lines, lines, max_size=2),
    reboots_took=st.lists(st.integers(0, 86400), max_size=3).map(tuple),
    grace=st.none() | st.builds(Grace, lines, epochs, st.booleans()),
    last_install=st.none() | st.builds(
        LastInstall, lines, st.floats(0, 1e6), st.integers(0, 2**40), st.dictionaries(names, _costs, max_size=2),
        st.none() | st.integers(0, 2**40),
    ),
)
