"""What tells a wrong argument from a refusal."""

from __future__ import annotations

from updated.core.errors import UpdatedError


class Misuse(UpdatedError):
    """An argument that is wrong whatever the repository holds: the command ends with a status of its own for that."""
