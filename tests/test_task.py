"""What the daemon tells its children arrives as it was told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from updated.region import Region
from updated.task import Connection, Task

NEAR = Connection("http://a/")
FAR = Connection(
    "http://a/", "/ca", "/certificate", "http://proxy/", 2048, ("http://b/", "file:///c"), 16, 5000, "/d",
    ((1, 2048), (9, 0)),
)


@pytest.mark.parametrize("connection", [None, NEAR, FAR], ids=["none", "least", "all"])
def test_a_task_survives_the_way(connection: Connection | None) -> None:
    task = Task(
        store="/store", export="/export", root_of_trust="{}", system_time=1.5, built=1, channel="stable",
        running="1.0.0", floor="1.0.0", compatible="box", denied={"1.1.0": "it failed"},
        held=("1.0.0",), sizes={"rootfs": 100},
        connection=connection, grace=86400, imported=9, allow_downgrade=True, pin="1.1.0", newest="1.9",
    )
    assert Task.from_json(task.to_json()) == task


def test_a_child_gets_each_file_that_it_needs_and_no_other() -> None:
    task = Task(
        store="/store", export="/export", root_of_trust="{}", system_time=1.5, built=1, channel="stable",
        running="1.0.0", floor="1.0.0", compatible="box", regions={"rootfs": Region(5, 0, 9)},
        seeds={"rootfs": Region(6, 0, 9)},
    )
    assert task.descriptors() == [5, 6]
    assert replace(task, imported=7).descriptors() == [5, 6, 7]
