"""Changes of the keys of a role, and of how many of them have to sign.

Root says which keys sign the top-level roles, and targets which sign the releases and the channels. The role itself is
signed anew in the same publication, so that what nodes read is signed by the keys that it needs, at every instant.
"""

from __future__ import annotations

from collections.abc import Sequence

from securesystemslib.signer import Key  # type: ignore[attr-defined]

from updated.core.errors import UpdatedError
from updated.publish import rules
from updated.publish.keyrecord import KeyRecord
from updated.publish.keys import KeyFolder
from updated.publish.publication import Publication
from updated.publish.repository import Repository


def rotate(repository: Repository, keys: KeyFolder, role: str, old: str, new: KeyRecord, *, now: float) -> bool:
    """Takes the key `new` into `role` and the key with the id `old` out; False when that is so already.

    Raises `UpdatedError` ("bad-request", "bad-key") and OSError.
    """
    present = _keyids(repository, role)
    if new.keyid in present and old not in present:
        if repository.interrupted:
            Publication.of(repository, keys, now).commit()
        return False
    _require(role, old, present)
    _refuse(role, new, present)
    members = [new.key if keyid == old else _key(repository, role, keyid) for keyid in present]
    _assign(repository, keys, role, members, repository.roles.threshold(role), now)
    return True


def revoke(repository: Repository, keys: KeyFolder, role: str, old: str, *, now: float) -> None:
    """Takes the key with the id `old` out of `role`. Raises as `rotate`."""
    present = _keyids(repository, role)
    _require(role, old, present)
    members = [_key(repository, role, keyid) for keyid in present if keyid != old]
    _assign(repository, keys, role, members, repository.roles.threshold(role), now)


def add(
    repository: Repository, keys: KeyFolder, role: str, new: KeyRecord, threshold: int | None, *, now: float
) -> None:
    """Takes the key `new` into `role`; from then on `threshold` keys have to sign, if given. Raises as `rotate`."""
    present = _keyids(repository, role)
    _refuse(role, new, present)
    members = [*(_key(repository, role, keyid) for keyid in present), new.key]
    _assign(repository, keys, role, members, threshold or repository.roles.threshold(role), now)


def set_threshold(repository: Repository, keys: KeyFolder, role: str, threshold: int, *, now: float) -> None:
    """Lets `threshold` keys sign `role` from now on. Raises as `rotate`."""
    members = [_key(repository, role, keyid) for keyid in _keyids(repository, role)]
    _assign(repository, keys, role, members, threshold, now)


def _assign(
    repository: Repository, keys: KeyFolder, role: str, members: Sequence[Key], threshold: int, now: float
) -> None:
    roles = repository.roles
    delegator = roles.delegator(role)
    for keyid in _keyids(repository, role):
        delegator.revoke_key(keyid, role)
    for key in members:
        delegator.add_key(key, role)
    delegator.get_delegated_role(role).threshold = threshold
    rules.check(roles.root.signed, roles.targets.signed)
    signed = ("targets", role) if role in roles.delegated else ("root", "targets") if role == "targets" else ("root",)
    publication = Publication.of(repository, keys, now, signed)
    for name in signed:
        publication.sign(name)
    publication.commit()


def _keyids(repository: Repository, role: str) -> list[str]:
    if role not in repository.roles.all():
        raise UpdatedError(
            "bad-request", f"the role {role!r}", "is not there",
            f"Name one of {', '.join(repository.roles.all())}.",
        )  # fmt: skip
    return repository.roles.keyids(role)


def _key(repository: Repository, role: str, keyid: str) -> Key:
    return repository.roles.delegator(role).get_key(keyid)


def _require(role: str, old: str, present: Sequence[str]) -> None:
    if old not in present:
        raise UpdatedError(
            "bad-request", f"the key {old[:16]}", f"is not one of those of {role}", "Look at `releasectl key list`."
        )


def _refuse(role: str, new: KeyRecord, present: Sequence[str]) -> None:
    if new.keyid in present:
        raise UpdatedError(
            "bad-request", f"the key {new.name}", f"signs {role} already", "Look at `releasectl key list`."
        )
