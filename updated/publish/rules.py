"""What must be true of the keys and delegations of every repository, whoever signed them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tuf.api.metadata import Key, Metadata, Role, Root, Targets  # type: ignore[attr-defined]

from updated.core.errors import UpdatedError
from updated.core.release import channel_target, is_name
from updated.publish.keyrecord import require_known
from updated.publish.repository import LIFETIME, RELEASES, TOP_ROLES

LONGEST_LIFETIME: Final = 36500
_TOGETHER: Final[Mapping[str, str]] = {"root": "root", "targets": "root", "snapshot": "online", "timestamp": "online"}
"""Roles whose keys may be the same, since whoever has the key of one gains nothing by the other."""


def paths_of(role: str) -> list[str]:
    """The targets that a delegated role may list, as its delegation states them."""
    return ["releases/*"] if role == RELEASES else [channel_target(role)]


def check(root: Root, targets: Targets) -> None:
    """Raises `UpdatedError` ("bad-request", "bad-key") for what would break the separation of roles, or a role."""
    if not root.consistent_snapshot:
        raise _broken("the root", "does not ask for consistent snapshots")
    delegations = targets.delegations
    roles = (delegations.roles if delegations is not None else None) or {}
    if targets.targets or delegations is None or delegations.succinct_roles is not None or RELEASES not in roles:
        raise _broken("the role targets", f"does more, or less, than to delegate to {RELEASES} and to channels")
    for name, role in roles.items():
        usual = role.paths == paths_of(name) and role.terminating and role.path_hash_prefixes is None
        if not usual or not (name == RELEASES or is_name(name)) or name in TOP_ROLES or role.unrecognized_fields:
            raise _broken(f"the delegation to {name}", "is not for its own targets alone")
    used = {keyid for entry in root.roles.values() for keyid in entry.keyids}
    if set(root.keys) != used or set(delegations.keys) != {keyid for role in roles.values() for keyid in role.keyids}:
        raise _broken("the keys of root or targets", "are not just those of their roles")
    owners: list[tuple[str, Key]] = []
    for delegator, entries in ((root, root.roles), (targets, roles)):
        for name, entry in entries.items():
            _check_role(delegator, name, entry)
            owners += [(name, delegator.get_key(keyid)) for keyid in entry.keyids]
    check_separation(owners)


def check_separation(owners: Iterable[tuple[str, Key]]) -> None:
    """Raises `UpdatedError` ("bad-key") when one key, of these pairs of role and key, would sign for too much."""
    firsts: dict[str, str] = {}
    for role, key in owners:
        # By what it is: two schemes make two key ids of one RSA key.
        first = firsts.setdefault(str(key.keyval.get("public")), role)
        if _group(first) != _group(role):
            raise UpdatedError(
                "bad-key", f"the key {key.keyid[:16]}", f"would sign for {first} and for {role}; then one stolen key "
                "could do what needs two",
                "Make a key of its own for each: only root and targets, or snapshot and timestamp, may share one.",
            )  # fmt: skip


def _check_role(delegator: Root | Targets, name: str, entry: Role) -> None:
    materials = set()
    for keyid in entry.keyids:
        try:
            key = delegator.get_key(keyid)
        except ValueError:
            raise _broken(f"the role {name}", f"names the key {keyid[:16]}, which is not there") from None
        require_known(key)
        materials.add(key.keyval["public"])
    if len(materials) < len(entry.keyids):
        raise UpdatedError("bad-key", f"the role {name}", "has one key twice", "Give it another one.")
    if not 1 <= entry.threshold <= len(materials):
        raise UpdatedError(
            "bad-request", f"the role {name}", f"would need {entry.threshold} of {len(materials)} keys",
            "Keep at least as many keys as have to sign, and let at least one sign.",
        )  # fmt: skip


def check_role(role: str, metadata: Metadata[Any], base: Metadata[Any]) -> None:
    """Raises `UpdatedError` ("bad-request") unless `metadata` can follow `base` as that of `role`."""
    what = f"the metadata of {role}"
    signed = metadata.signed
    if not isinstance(signed, Root if role == "root" else Targets) or type(base.signed) is not type(signed):
        raise _broken(what, "is of another type")
    if signed.version != base.signed.version + 1:
        raise _broken(what, f"has version {signed.version}, and {base.signed.version + 1} comes next")
    days = signed.unrecognized_fields.get(LIFETIME)
    if type(days) is not int or not 1 <= days <= LONGEST_LIFETIME:
        raise _broken(what, f"does not say how many days it lasts, 1 to {LONGEST_LIFETIME}")
    if role in TOP_ROLES or not isinstance(signed, Targets):
        return
    if signed.delegations is not None or not _lists_its_own(role, list(signed.targets)):
        raise _broken(what, "is about more than its own targets")


def _lists_its_own(role: str, paths: Sequence[str]) -> bool:
    if role != RELEASES:
        return set(paths) <= {channel_target(role)}
    return all(path.startswith("releases/") and path.endswith(".json") and path.count("/") == 1 for path in paths)


def _group(role: str) -> str:
    # No role is named like a path.
    return _TOGETHER.get(role, f"/{role}")


def _broken(what: str, cause: str) -> UpdatedError:
    return UpdatedError("bad-request", what, cause, "Leave it as it is; ask the one who changed it.")
