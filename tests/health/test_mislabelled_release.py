"""A release with the image of another version, from `releasectl` to `updatectl status`, with the real daemon."""

import json
from pathlib import Path

from tests.fakes import nginx
from tests.fakes.bus import private_bus
from tests.node.world import COMPATIBLE, Publisher, make_machine

SIZE = 200_000


def publish(publisher: Publisher, version: str, image: Path) -> None:
    publisher.call(
        "add", str(publisher.repository), "--keys", str(publisher.keys), "--version", version, "--compatible",
        COMPATIBLE, "--component", f"rootfs={image}", "--level", "1",
    )  # fmt: skip
    publisher.promote(version, "stable")


def test_it_is_left_told_and_denied_and_published_right_it_is_taken(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher")
    publisher.release("1.0.0", size=SIZE)
    with (
        private_bus() as bus, nginx.serve(publisher.repository) as url,
        make_machine(tmp_path / "machine", publisher, url, slot_size="1M") as machine,
    ):
        machine.environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus}
        image = publisher.image("1.2.0", size=SIZE)
        publish(publisher, "1.1.0", image)
        machine.start_daemon()
        machine.wait_until(machine.reboot_asked.exists)
        assert machine.power_on() == "a"
        machine.start_daemon()
        told = "1.1.0 was staged in slot b, but IMAGE_VERSION in its os-release says 1.2.0"
        machine.wait_until(lambda: told in machine.updatectl("status", check=False).stdout)
        status = json.loads(machine.updatectl("status", "--json").stdout)
        assert status["fallback"]["version"] == "1.1.0"
        assert [each["version"] for each in status["denied"]] == ["1.1.0"]
        publish(publisher, "1.2.0", image)
        machine.updatectl("check")
        machine.wait_until(machine.reboot_asked.exists)
        assert machine.power_on() == "b"
