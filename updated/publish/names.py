"""Names in a release that no release before it has: nodes compare them letter by letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from updated.core.release import Release

_MEND = (
    "refuse this release, and get no other one from a channel that ships it. If that is a mistake, do not promote it "
    "(`releasectl recall` takes back what is promoted), and add the right one with another version."
)


def unheard_of(known: Sequence[Release], release: Release) -> Iterator[str]:
    """What to tell of the names in `release` that none of `known` has; nothing of those in a first release."""
    if not known:
        return
    kinds = {each.compatible for each in known}
    if release.compatible not in kinds:
        others = ", ".join(map(repr, sorted(kinds)))
        yield (
            f"release {release.version} is for {release.compatible!r}; all others are for {others}. "
            f"Nodes with anything else in [identity] compatible {_MEND}"
        )
    components = {name for each in known for name in each.components}
    if new := ", ".join(sorted(release.components.keys() - components)):
        yield (
            f"release {release.version} has the component {new}; all others have {', '.join(sorted(components))}. "
            f"Nodes whose slots have no {new} {_MEND}"
        )
