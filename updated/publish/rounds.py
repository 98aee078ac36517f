"""A round of signing: each person adds signatures to a request, and somebody publishes it when there are enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from bootctl import durable
from updated.core.errors import UpdatedError
from updated.core.release import Channel, Release, release_target
from updated.publish import rules
from updated.publish.keys import KeyFolder
from updated.publish.publication import Publication, is_signed, sign
from updated.publish.repository import LIFETIME, RELEASES, Repository, verify
from updated.publish.request import MOST_BYTES, Request
from updated.publish.whole import require_whole

_MEND_BLOBS = "Copy the folder blobs/ from where the request was made."


def read(file: str, root: str | None = None) -> Request:
    """The request in `file`, which has to be about the repository of the root metadata in the file `root`, if given.

    Raises `UpdatedError` ("bad-request", "bad-key").
    """
    what = f"the request {file}"
    try:
        with open(file, "rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UpdatedError("bad-request", what, error.strerror or str(error), "Name a request file.") from None
    request = Request.parse(data, what)
    if root is not None:
        _require_follows(request, what, root)
    return request


def _require_follows(request: Request, what: str, root: str) -> None:
    """Refuses a request that shows another repository as what it follows, so that its changes look harmless."""
    try:
        with open(root, "rb") as opened:
            trusted = Metadata[Root].from_bytes(opened.read(MOST_BYTES))
    except (OSError, DeserializationError) as error:
        cause = error.strerror or str(error) if isinstance(error, OSError) else "is no root metadata"
        raise UpdatedError(
            "bad-request", f"the root metadata {root}", cause, "Name what `releasectl export-root` wrote."
        ) from None
    base = request.base["root"]
    older = base.signed.version < trusted.signed.version
    if older or not isinstance(trusted.signed, Root) or not is_signed(trusted.signed, "root", base):
        raise UpdatedError(
            "bad-request", what, f"does not follow the root of {root}",
            "Don't sign it, unless you know of a newer root: then name that one.",
        )  # fmt: skip


def add_signatures(file: str, keys: KeyFolder, root: str | None = None) -> dict[str, tuple[str, ...]]:
    """Signs the request in `file` with the keys that are here and were asked; by role, the key ids that signed now.

    `root` as in `read`. Raises `UpdatedError` ("bad-request", "bad-key") and OSError; then the file is as it was.
    """
    request = read(file, root)
    added: dict[str, tuple[str, ...]] = {}
    for role, metadata in request.new.items():
        wanted = [keyid for keyid in request.keyids(role) if keyid not in metadata.signatures]
        signers = keys.signers(wanted).signers
        for signer in signers:
            sign(metadata, signer)
        if signers:
            added[role] = tuple(signer.public_key.keyid for signer in signers)
    if added:
        durable.write_file(file, request.format())
    return added


def publish(repository: Repository, keys: KeyFolder, requests: Sequence[Request], *, now: float) -> Request:
    """Publishes a request, of which `requests` are copies with different signatures; returns it with all of them.

    `now` is in seconds since the epoch. Raises `UpdatedError` ("bad-request", "bad-key", "metadata-invalid",
    "bad-repository") and OSError; then nothing is changed.
    """
    request = requests[0]
    for other in requests[1:]:
        request = request.merged(other)
    _require_current(repository, request)
    _require_time(request, now)
    roles = repository.roles
    roles = replace(
        roles, root=request.new.get("root", roles.root), targets=request.new.get("targets", roles.targets),
        delegated={role: request.new.get(role, metadata) for role, metadata in roles.delegated.items()},
    )  # fmt: skip
    rules.check(roles.root.signed, roles.targets.signed)
    for role, metadata in request.new.items():
        delegators = [roles.delegator(role), repository.root_in_force] if role == "root" else [roles.delegator(role)]
        if not all(is_signed(delegator, role, metadata) for delegator in delegators):
            raise UpdatedError(
                "bad-request", f"the metadata of {role}", "has too few signatures",
                "Look at `releasectl request show`, and have it signed.",
            )  # fmt: skip
    for role, metadata in roles.delegated.items():
        verify(roles.targets.signed, role, metadata)
    _require_content(repository, request)
    publication = Publication(repository.path, roles, keys, now, repository=repository)
    for role in request.new:
        publication.take(role)
    for path, data in request.files.items():
        publication.put_file(path, data)
    publication.commit()
    return request


def _require_current(repository: Repository, request: Request) -> None:
    current = repository.roles.all()
    for role in request.new:
        if role not in current or current[role].signed_bytes != request.base[role].signed_bytes:
            raise UpdatedError(
                "bad-request", f"the request for {role}",
                f"does not follow what is published now: it was made for version {request.base[role].signed.version}, "
                f"and there is {f'version {current[role].signed.version}' if role in current else 'no such role'}",
                "Make the request anew, and have it signed.",
            )  # fmt: skip


def _require_time(request: Request, now: float) -> None:
    for role, metadata in request.new.items():
        left = metadata.signed.expires.timestamp() - now
        most = (metadata.signed.unrecognized_fields[LIFETIME] + 1) * 86400
        if not 0 < left <= most:
            raise UpdatedError(
                "bad-request", f"the metadata of {role}", f"expires on {metadata.signed.expires:%Y-%m-%d}, too "
                f"{'early' if left <= 0 else 'late'}", "Make the request anew, and have it signed.",
            )  # fmt: skip


def _require_content(repository: Repository, request: Request) -> None:
    """Refuses a channel that ships what is not published, and a release whose files are missing or damaged."""
    digests: Mapping[str, str] = {
        path: info.hashes["sha256"]
        for path, info in request.new.get(RELEASES, repository.roles.delegated[RELEASES]).signed.targets.items()
    }
    for path, data in request.files.items():
        if path.startswith("releases/"):
            require_whole(repository, Release.parse(data), mend=_MEND_BLOBS)
            continue
        channel = Channel.parse(data)
        shipped = {entry.manifest for entry in repository.channel(channel.name).entries}
        for entry in channel.entries:
            if digests.get(release_target(entry.version.text)) != entry.manifest:
                raise UpdatedError(
                    "bad-request", f"release {entry.version} in {path}", "is not the one that is published",
                    "Publish that first, or make the request anew.",
                )  # fmt: skip
            if entry.manifest not in shipped and release_target(entry.version.text) not in request.files:
                require_whole(repository, repository.release(entry.version.text)[0])
