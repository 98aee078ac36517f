"""`updatectl provision`: lays out a disk or a disk image."""

from __future__ import annotations

import argparse
import json
import os
import re

from bootctl.errors import BootError
from updated.cli import exits
from updated.core.errors import UpdatedError
from updated.disk import boot_error
from updated.provision import Layout
from updated.provision import provision as lay_out

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def size(text: str) -> int:
    """`512M` as bytes. Raises `UpdatedError` ("bad-request")."""
    match = re.fullmatch(r"(\d{1,15})([KMGT]?)", text)
    if match is None or int(match[1]) == 0:
        raise UpdatedError("bad-request", f"the size {text!r}", "is not a size", "Write it as 512M or 2G.")
    return int(match[1]) * _UNITS[match[2]]


def provision(options: argparse.Namespace) -> int:
    """Lays the disk out, and installs the factory image if one is given."""
    layout = Layout(size(options.slot_size), size(options.state_size), size(options.esp_size))
    made = not os.path.exists(options.disk)
    try:
        lay_out(options.disk, layout, image=options.image, force=options.force)
    except BootError as error:
        raise boot_error(error) from None
    if options.json:
        print(json.dumps({"disk": options.disk, "partitions": dict(layout.partitions())}, indent=2))
        return exits.DONE
    names = ", ".join(name for name, _ in layout.partitions())
    done = f"The image file {options.disk} is made and laid out" if made else f"{options.disk} is laid out"
    print(f"{done}: {names}." + (" Slot a is installed and confirmed." if options.image else ""))
    return exits.DONE
