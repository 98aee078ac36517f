"""Who may do what over D-Bus: judged by a real bus with Debian's own policy, and by a real polkitd."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.packaging.shipped import PACKAGING, as_nobody_special, as_root, open_folder, run, running

BUS_POLICY = PACKAGING / "dbus-1/system.d/org.updated.Updated1.conf"
BUS_SERVICE = PACKAGING / "dbus-1/system-services/org.updated.Updated1.service"
ACTIONS = PACKAGING / "polkit-1/actions/org.updated.Updated1.policy"
NAME = "org.updated.Updated1"
PATH = "/org/updated/Updated1"

# The daemon's own side of the bus; it prints what it was asked, and by whom.
OUR_BUS = """
import asyncio
from bootctl.model import BootView, SlotState
from updated.bus import Bus
from updated.core.machine import first_state
from updated.core.policy import Policy
from updated.core.state import BootFacts
from updated.core.status import Report, status_document

VIEW = BootView((("a", SlotState(2, 0, True)), ("b", SlotState())))
DOCUMENT = status_document(first_state(BootFacts("a", "1.0", "boot", VIEW), 0.5), Policy(), Report(), 0)

def request(kind, **fields):
    print("request", kind.__name__, fields["by"], flush=True)

async def main():
    bus = Bus(request)
    await bus.connect(DOCUMENT)
    print("ready", flush=True)
    await bus.lost()

asyncio.run(main())
"""

# Owns the name and answers every call, so that a call without an answer was stopped by the bus.
ANSWERS_ALL = f"""
import asyncio, sys
from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

def answer(message):
    return Message.new_method_return(message) if message.message_type is MessageType.METHOD_CALL else None

async def main():
    bus = await MessageBus(bus_address=sys.argv[1]).connect()
    bus.add_message_handler(answer)
    await bus.request_name("{NAME}")
    print("ready", flush=True)
    await bus.wait_for_disconnect()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    """The address of a bus with the policy of Debian's system bus, ours, and polkit's."""
    with open_folder() as folder:
        address = f"unix:path={folder}/socket"
        policies = folder / "system.d"
        policies.mkdir()
        polkit = Path("/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf")
        for policy in (BUS_POLICY, polkit):
            (policies / policy.name).write_bytes(policy.read_bytes())
        tree = ET.parse("/usr/share/dbus-1/system.conf")
        config = tree.getroot()
        for element in [child for child in config if child.tag not in {"type", "auth", "policy"}]:
            config.remove(element)
        ET.SubElement(config, "listen").text = address
        ET.SubElement(config, "includedir").text = str(policies)
        tree.write(folder / "bus.conf")
        daemon = as_root(
            "dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile", "--print-address=1"
        )
        with running(daemon, ready="unix:path="):
            yield address


@pytest.fixture
def service(bus: str) -> Iterator[str]:
    with running(as_root(sys.executable, "-c", ANSWERS_ALL, bus), ready="ready"):
        yield bus


def own(bus: str) -> list[str]:
    call = "org.freedesktop.DBus.RequestName"
    return [
        "dbus-send",
        f"--bus={bus}",
        "--print-reply",
        f"--dest={call[:20]}",
        "/",
        call,
        f"string:{NAME}",
        "uint32:4",
    ]


def call(bus: str, member: str, *arguments: str) -> CompletedProcess[str]:
    return run(
        *as_nobody_special(
            "dbus-send", f"--bus={bus}", "--print-reply", f"--dest={NAME}", PATH, member, *arguments
        )
    )


def test_root_may_own_the_name(bus: str) -> None:
    owned = run(*as_root(*own(bus)))
    assert "uint32 1" in owned.stdout, owned.stderr


def test_no_other_user_may_own_the_name(bus: str) -> None:
    refused = run(*as_nobody_special(*own(bus)))
    assert refused.returncode != 0
    assert "is not allowed to own the service" in refused.stderr


@pytest.mark.parametrize(
    "method", ["Check", "Install", "Import", "Reboot", "Rollback", "SetChannel", "Hold", "Unhold", "Allow"]
)
def test_anyone_may_call_a_method_since_polkit_decides(service: str, method: str) -> None:
    assert call(service, f"{NAME}.{method}").returncode == 0


PROPERTIES = "org.freedesktop.DBus.Properties"


@pytest.mark.parametrize(
    "member", [f"{PROPERTIES}.Get", f"{PROPERTIES}.GetAll", "org.freedesktop.DBus.Introspectable.Introspect"]
)
def test_anyone_may_look(service: str, member: str) -> None:
    assert call(service, member).returncode == 0


@pytest.mark.parametrize("member", [f"{PROPERTIES}.Set", "org.example.Other.Method"])
def test_nothing_else_reaches_the_daemon(service: str, member: str) -> None:
    refused = call(service, member)
    assert refused.returncode != 0
    assert "org.freedesktop.DBus.Error.AccessDenied" in refused.stderr


def test_the_bus_starts_the_daemon_through_systemd_alone() -> None:
    lines = BUS_SERVICE.read_text().splitlines()
    assert {f"Name={NAME}", "Exec=/bin/false", "User=root", "SystemdService=updated.service"} <= set(lines)


@pytest.mark.parametrize("file", [BUS_POLICY, ACTIONS], ids=lambda file: file.name)
def test_the_xml_is_well_formed(file: Path) -> None:
    judged = run("xmllint", "--noout", "--nonet", str(file))
    assert (judged.returncode, judged.stderr) == (0, "")


def test_the_actions_keep_to_the_document_type_of_polkit() -> None:
    judged = run(
        "xmllint", "--noout", "--nonet", "--dtdvalid", "/usr/share/polkit-1/policyconfig-1.dtd", str(ACTIONS)
    )
    assert (judged.returncode, judged.stderr) == (0, "")


def polkit(bus: str, script: str, **environment: str) -> CompletedProcess[str]:
    """`script`, in an empty folder, beside a polkitd that knows our actions and no others."""
    around = """
set -eu
cd "$2"
mount --bind "$1" /usr/share/polkit-1/actions
/usr/lib/polkit-1/polkitd --no-debug >/dev/null 2>&1 &
polkitd=$!
trap 'kill $polkitd; wait $polkitd || true' EXIT
for _ in $(seq 100); do pkaction >/dev/null 2>&1 && break; sleep 0.05; done
"""
    with open_folder() as folder:
        return run(
            *as_root("sh", "-c", around + script, "polkit", str(ACTIONS.parent), str(folder), mounts=True),
            DBUS_SYSTEM_BUS_ADDRESS=bus,
            **environment,
        )


def test_polkit_knows_one_action_for_each_method(bus: str) -> None:
    listed = polkit(bus, "pkaction --verbose")
    assert listed.returncode == 0, listed.stderr
    actions = {}
    for block in listed.stdout.strip().split("\n\n"):
        name, *lines = block.splitlines()
        fields = dict(line.strip().split(":", 1) for line in lines)
        actions[name.removesuffix(":").removeprefix(f"{NAME}.")] = tuple(
            fields[f"implicit {who}"].strip() for who in ("active", "inactive", "any")
        )
    asks = "auth_admin_keep"
    changing = ("install", "import", "reboot", "rollback", "set-channel", "hold", "unhold", "allow")
    assert actions == {"check": ("yes", asks, asks), **dict.fromkeys(changing, (asks, asks, asks))}


@pytest.mark.parametrize("action", ["check", "reboot"])
def test_polkit_lets_root_through_and_asks_a_remote_user_for_a_password(bus: str, action: str) -> None:
    judged = polkit(
        bus,
        f"""
pkcheck --action-id {NAME}.{action} --process $$ && echo root passes
setpriv --reuid=1 --regid=1 --clear-groups sleep 60 & other=$!
until [ "$(stat -c %u /proc/$other)" = 1 ]; do sleep 0.01; done
pkcheck --action-id {NAME}.{action} --process $other >/dev/null 2>&1 || echo "other: $?"
kill $other
""",
    )
    assert judged.stdout.splitlines() == ["root passes", "other: 2"], (
        "pkcheck(1): 2 is a challenge without an agent"
    )


def test_the_daemon_does_what_polkit_allows_and_refuses_the_rest_by_name(bus: str) -> None:
    call = f"busctl --address={bus} call {NAME} {PATH} {NAME} Reboot"
    judged = polkit(
        bus,
        f"""
{sys.executable} -c "$OUR_BUS" >requests 2>&1 & daemon=$!
until grep -q ready requests; do sleep 0.05; done
setpriv --reuid=1 --regid=1 --clear-groups {call} 2>&1 || true
echo between; cat requests
{call}
echo after; cat requests
kill $daemon; wait $daemon || true
""",
        OUR_BUS=OUR_BUS,
    )
    refused, _, rest = judged.stdout.partition("between\n")
    before, _, after = rest.partition("after\n")
    assert "org.updated.Updated1.reboot: polkit says no" in refused, judged.stdout + judged.stderr
    assert "Traceback" not in refused
    assert before.split() == ["ready"]
    assert after.splitlines() == ["ready", "request RebootRequested root"]
