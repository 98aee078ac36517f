"""The reference image: no boot is without a network because networkd gave a link up."""

from __future__ import annotations

import pytest

from tests.e2e.node import Node

_BLOCKED = "/run/modprobe.d/blocked.conf"
_SETTINGS = "/run/systemd/network/80-dhcp.network.d/shaped.conf"
_TRIED_AGAIN = "test $(journalctl --boot -u systemd-networkd | grep -c 'eth0: Failed$') -ge 3"
_CONFIGURED = "networkctl --no-legend list eth0 | grep -w configured"
_LIMIT = 120.0


@pytest.mark.loaders("systemd-boot")
def test_a_link_that_networkd_gave_up_is_configured_again_as_soon_as_that_succeeds(node: Node) -> None:
    node.wait_for(lambda _: node.run(_CONFIGURED, check=False)[0] == 0, _LIMIT, what="the network")
    # networkd gives a link up when the kernel does not have the queue that it shall get.
    node.write(_BLOCKED, "install sch_cake /bin/false\n")
    node.write(_SETTINGS, "[CAKE]\nBandwidth=1G\n")
    node.run("networkctl reload")
    node.wait_for(lambda _: node.run(_TRIED_AGAIN, check=False)[0] == 0, _LIMIT, what="that it is tried again")
    node.run(f"rm {_BLOCKED}")
    node.wait_for(lambda _: node.run(_CONFIGURED, check=False)[0] == 0, _LIMIT, what="the network, again")
    assert "cake" in node.run("tc qdisc show dev eth0")[1]
