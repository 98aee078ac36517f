"""The boot reference in GRUB's environment block, with RAUC's variables and one of our own.

`ORDER` lists the slots (upper-case names, the first one is tried first; a slot that it omits comes last). Of slot X:

| variables | slot |
|---|---|
| `X_OK=1` | good, and its boots are not counted |
| `X_OK=1 X_TRIES=n X_GOOD=1` | good, and boots n times until somebody gives it its boots again; 0: the last resort |
| `X_OK=1 X_TRIES=n` | on trial, n boots left; 0: bad |
| `X_OK=0 X_TRIES=rejected` | bad; when another program sets X_OK=1, the slot is good, as that program means |
| `X_OK=0` | empty |

`X_TRY=0` is kept for RAUC's own GRUB script, which starts the first slot that has X_OK=1 and X_TRY=0. The reader at
boot is packaging/grub/updated.cfg.

The block (grub-core/lib/envblk.c) is 1024 bytes: a line with its signature, lines of comment that begin with `#`, lines
NAME=VALUE in which a backslash precedes a backslash or newline of the value, and `#` up to the end. GRUB saves into the
blocks of the file in place, so the size never changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bootctl import durable
from bootctl.errors import BootError, naming
from bootctl.file_pair import FilePair
from bootctl.model import EMPTY, MAX_PRIORITY, MAX_TRIES, REJECTED, BootView, SlotState

BLOCK_SIZE: Final = 1024

_BLOCK: Final = "GRUB's environment block"
_MEND_MISSING: Final = (
    'Create it (grub-editenv FILE create; grub-editenv FILE set ORDER="A B" A_OK=1 B_OK=0, with the slot that runs '
    "first), or set grubenv in the table [boot]."
)
_SIGNATURE: Final = b"# GRUB Environment Block\n"
_ASSIGNMENT: Final = re.compile(rb"([^#=\n\0][^=\n\0]*)=((?:[^\\\n]|\\.)*)\n", re.DOTALL)
_COMMENT: Final = re.compile(rb"#[^\n]*\n")
_FILLER: Final = re.compile(rb"#+\n")
_PADDING: Final = re.compile(rb"#*")
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)
_SECTOR: Final = 512
_SLOT: Final = re.compile(r"[A-Z0-9]+")
_OURS: Final = re.compile(r"ORDER|[A-Z0-9]+_(?:OK|TRY|TRIES|GOOD)")
_REJECTED: Final = "rejected"
_TRIES: Final = {str(number): number for number in range(MAX_TRIES + 1)}


@dataclass(frozen=True, slots=True)
class EnvBlock:
    """The variables of an environment block, and the comments that follow its signature.

    Bytes that are no UTF-8 are kept by surrogate escapes.
    """

    variables: Mapping[str, str]
    comments: tuple[bytes, ...] = field(default=())


def parse(data: bytes) -> EnvBlock:
    """Raises BootError `grubenv-corrupt` for anything that GRUB would not read to the end, or not save into."""
    if len(data) != BLOCK_SIZE:
        raise _corrupt(f"it has {len(data)} bytes instead of {BLOCK_SIZE}")
    if not data.startswith(_SIGNATURE):
        raise _corrupt("it lacks the signature of GRUB")
    variables: dict[str, str] = {}
    comments: list[bytes] = []
    position = len(_SIGNATURE)
    while not _PADDING.fullmatch(data, position):
        comment = _COMMENT.match(data, position)
        assignment = _ASSIGNMENT.match(data, position)
        if comment:
            if not _FILLER.fullmatch(comment[0]):
                comments.append(comment[0])
            position = comment.end()
        elif assignment:
            variables[_text(assignment[1])] = _text(_ESCAPE.sub(rb"\1", assignment[2]))
            position = assignment.end()
        else:
            raise _corrupt(f"byte {position} begins no variable")
    return EnvBlock(variables, tuple(comments))


def format_block(block: EnvBlock) -> bytes:
    """The block as 1024 bytes. Raises BootError `grubenv-full` when the variables don't fit.

    Our own variables come first and foreign ones begin at the second sector if there is room, so that a change of ours
    touches one sector, which a disk writes as a whole.
    """
    ours, foreign = bytearray(_SIGNATURE + b"".join(block.comments)), bytearray()
    for name, value in block.variables.items():
        escaped = re.sub(rb"([\\\n])", rb"\\\1", _bytes(value))
        (ours if _OURS.fullmatch(name) else foreign).extend(_bytes(name) + b"=" + escaped + b"\n")
    if foreign and len(ours) < _SECTOR and len(foreign) <= BLOCK_SIZE - _SECTOR:
        ours += b"#" * (_SECTOR - 1 - len(ours)) + b"\n"
    data = bytes(ours + foreign)
    if len(data) > BLOCK_SIZE:
        raise BootError(
            "grubenv-full",
            _BLOCK,
            f"its variables need {len(data)} bytes, and it has {BLOCK_SIZE}",
            "Remove variables that nobody needs (grub-editenv FILE unset NAME).",
        )
    return data.ljust(BLOCK_SIZE, b"#")


def decode(variables: Mapping[str, str]) -> BootView:
    """The boot reference in the variables. Raises BootError `grubenv-corrupt`, `no-slots`."""
    order = variables.get("ORDER", "").split()
    if len(set(order)) != len(order) or not all(_SLOT.fullmatch(name) for name in order):
        raise _corrupt(f"ORDER is {variables['ORDER']!r}, which is no list of slots")
    known = {name.removesuffix("_OK") for name in variables if _OURS.fullmatch(name) and name.endswith("_OK")}
    names = [*order, *sorted(known.difference(order))]
    if not names:
        raise BootError(
            "no-slots",
            _BLOCK,
            "it names no slot",
            'Set its variables (grub-editenv FILE set ORDER="A B" A_OK=1 B_OK=0).',
        )
    if len(names) > MAX_PRIORITY:
        raise _corrupt(f"it names {len(names)} slots")
    priorities = {name: len(names) - index for index, name in enumerate(names)}
    return BootView(tuple((name.lower(), _state(variables, name, priorities[name])) for name in sorted(names)))


def _state(variables: Mapping[str, str], name: str, priority: int) -> SlotState:
    tries = variables.get(f"{name}_TRIES", "")
    if variables.get(f"{name}_OK") != "1":
        return REJECTED if tries else EMPTY
    if tries in ("", _REJECTED):
        return SlotState(priority, tries_left=0, confirmed=True)
    # What GRUB's script can't count is no try to it either.
    left, confirmed = _TRIES.get(tries, 0), variables.get(f"{name}_GOOD") == "1"
    return SlotState(0 if confirmed and not left else priority, left, confirmed)


def encode(variables: Mapping[str, str], view: BootView) -> dict[str, str]:
    """`variables` with the boot reference `view`, and all foreign ones as they are."""
    changed = dict(variables)
    ranked = sorted(view.slots, key=lambda slot: -slot[1].priority)
    changed["ORDER"] = " ".join(name.upper() for name, _ in ranked)
    for slot, state in view.slots:
        name = slot.upper()
        changed[f"{name}_OK"] = "1" if state.confirmed or state.priority else "0"
        changed[f"{name}_TRY"] = "0"
        changed.pop(f"{name}_TRIES", None)
        changed.pop(f"{name}_GOOD", None)
        if state.confirmed and not (state.bootable and not state.tries_left):
            changed[f"{name}_GOOD"] = "1"
            changed[f"{name}_TRIES"] = str(state.tries_left if state.bootable else 0)
        elif state.priority and not state.confirmed:
            changed[f"{name}_TRIES"] = str(state.tries_left)
        elif state.condition == "bad":
            changed[f"{name}_TRIES"] = _REJECTED
    return changed


class Grub:
    """The backend for the environment block `path`, of which a second copy is kept beside it.

    The block knows an order and no numbers: what was committed with the priorities 1 and 0 is read back as 2 and 0.
    """

    def __init__(self, path: str) -> None:
        self.name = "grub"
        self.most_tries = MAX_TRIES
        self.counts_confirmed = True
        self._files = FilePair(
            path, "grubenv", most_bytes=BLOCK_SIZE, parse=parse, meaning=lambda block: block.variables,
            overwrite=_overwrite, mend_missing=_MEND_MISSING,
        )  # fmt: skip

    def read(self) -> BootView:
        """From the second copy if the first one is corrupt, as updated.cfg does.

        Raises BootError `grubenv-missing`, `grubenv-unreadable`, `grubenv-corrupt`, `no-slots`.
        """
        with naming(self._files.path, _BLOCK):
            return decode(self._files.read().variables)

    def commit(self, view: BootView) -> None:
        """Also rewrites a corrupt copy. Raises BootError: what `read` raises, `grubenv-full`,
        `grubenv-not-writable`, `unknown-slot`, `read-back-differs`.
        """
        with naming(self._files.path, _BLOCK):
            block = self._files.read()
            current = decode(block.variables)
            for name in {*current.names, *view.names}:
                for one in (current, view):
                    one.state(name)
            wanted = EnvBlock(encode(block.variables, view), block.comments)
            self._files.write(format_block(wanted), wanted.variables)

    def problems(self) -> tuple[str, ...]:
        with naming(self._files.path, _BLOCK):
            return tuple(f"{path}: {damage}" for path, damage in self._files.damages())

    def limits(self) -> tuple[str, ...]:
        return ()

    def begin_reboot(self) -> str:
        return ""


def _overwrite(fd: int, data: bytes) -> bool:
    """The first of the two sectors, with the signature and our variables, comes last: the block changes its meaning
    with that one.
    """
    if os.fstat(fd).st_size != len(data):
        return False
    durable.overwrite(fd, _SECTOR, data[_SECTOR:])
    durable.overwrite(fd, 0, data[:_SECTOR])
    return True


def _corrupt(cause: str) -> BootError:
    return BootError(
        "grubenv-corrupt",
        _BLOCK,
        cause,
        'Write it anew (grub-editenv FILE create; grub-editenv FILE set ORDER="A B" A_OK=1 B_OK=0), with the slot that '
        "runs now first.",
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogateescape")
