"""What the daemon tells its children arrives as it was told."""

from __future__ import annotations

import pytest

from updated.task import Connection, Task

NEAR = Connection("http://a/")
FAR = Connection("http://a/", "/ca", "/certificate", "http://proxy/", 2048, ("http://b/", "file:///c"), 16, 5000)


@pytest.mark.parametrize("connection", [None, NEAR, FAR], ids=["none", "least", "all"])
def test_a_task_survives_the_way(connection: Connection | None) -> None:
    task = Task(
        store="/store", export="/export", root_of_trust="{}", system_time=1.5, built=1, channel="stable",
        running="1.0.0", confirmed=True, compatible="box", denied=("1.1.0",), sizes={"rootfs": 100},
        connection=connection, allow_downgrade=True,
    )
    assert Task.from_json(task.to_json()) == task
