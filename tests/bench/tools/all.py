"""The tools that are compared."""

from __future__ import annotations

from tests.bench.tools.casync import Casync
from tests.bench.tools.own import Updated, WithoutPatches
from tests.bench.tools.rauc import Rauc
from tests.bench.tools.streams import Baseline, Bmaptool
from tests.bench.tools.swupdate import Swupdate, SwupdateDelta
from tests.bench.tools.tool import Tool
from tests.bench.tools.zchunk import Zchunk


def all_tools() -> list[Tool]:
    """In the order in which the tables show them."""
    return [
        Updated(), WithoutPatches(), Baseline(), Bmaptool(), Rauc(), Swupdate(), SwupdateDelta(), Casync(16384),
        Casync(65536), Zchunk(),
    ]  # fmt: skip
