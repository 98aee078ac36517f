"""Who may do what over D-Bus: judged by a real bus with Debian's own policy, and by a real polkitd."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.packaging.shipped import PACKAGING, as_nobody_special, as_root, open_folder, run, running
from updated.bus.methods import DEEDS

BUS_POLICY = PACKAGING / "dbus-1/system.d/org.updated.Updated1.conf"
BUS_SERVICE = PACKAGING / "dbus-1/system-services/org.updated.Updated1.service"
ACTIONS = PACKAGING / "polkit-1/actions/org.updated.Updated1.policy"
NAME = "org.updated.Updated1"
PATH = "/org/updated/Updated1"

# The daemon's own side of the bus; it prints what it was asked, and by whom.
OUR_BUS = """
import asyncio
from bootctl.model import BootView, SlotState
from updated.bus.service import Bus
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
    await bus.keep()

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


@pytest.mark.parametrize("method", DEEDS)
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


# One user for each case, of those that every Debian has.
ALLOWED, TESTER, AT_THE_CONSOLE, OTHER = 1, 2, 3, 4
RULES = f"""
polkit.addRule(function (action, subject) {{
    if (subject.user == "daemon" && action.id == "{NAME}.hold")
        return polkit.Result.YES;
    if (subject.user == "bin" && action.id == "{NAME}.set-channel" && action.lookup("channel") == "beta")
        return polkit.Result.YES;
}});
"""


def polkit(bus: str, script: str, **environment: str) -> CompletedProcess[str]:
    """`script`, in an empty folder, beside a polkitd that knows our actions, and no others, and `RULES`.

    Of what sd-login(3) reads, the session of the user `AT_THE_CONSOLE` is there: logind's files, and the control group.
    """
    around = f"""
set -eu
cd "$2"
mkdir rules rules/rules.d
printf '%s' "$RULES" >rules/rules.d/10-test.rules
mount --bind "$1" /usr/share/polkit-1/actions
mount --bind rules /etc/polkit-1
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/sessions /run/systemd/users /run/systemd/seats
printf 'UID={AT_THE_CONSOLE}\\nUSER=sys\\nACTIVE=1\\nSTATE=active\\nSEAT=seat0\\nTYPE=tty\\nCLASS=user\\n' \\
    >/run/systemd/sessions/1
printf 'NAME=sys\\nSTATE=active\\nDISPLAY=1\\nSESSIONS=1\\nACTIVE_SESSIONS=1\\n' >/run/systemd/users/{AT_THE_CONSOLE}
/usr/lib/polkit-1/polkitd --no-debug >/dev/null 2>&1 &
polkitd=$!
trap 'kill $polkitd; wait $polkitd || true' EXIT
for _ in $(seq 100); do pkaction >/dev/null 2>&1 && break; sleep 0.05; done
printf '1:name=systemd:%s\\n0::%s\\n' $(yes /user.slice/user-{AT_THE_CONSOLE}.slice/session-1.scope | head -2) >cgroup
as() {{
    user=$1; shift; rm -f go
    setpriv --reuid=$user --regid=$user --clear-groups sh -c 'until [ -e go ]; do sleep 0.01; done; exec "$@"' as "$@" &
    caller=$!
    [ $user != {AT_THE_CONSOLE} ] || mount --bind cgroup /proc/$caller/cgroup
    touch go; wait $caller
}}
"""
    with open_folder() as folder:
        return run(
            *as_root("sh", "-c", around + script, "polkit", str(ACTIONS.parent), str(folder), mounts=True),
            DBUS_SYSTEM_BUS_ADDRESS=bus,
            RULES=RULES,
            **environment,
        )


def beside_the_daemon(bus: str, script: str) -> str:
    """What `script` prints, beside our side of the bus and a polkitd."""
    around = f"""
{sys.executable} -c "$OUR_BUS" >requests 2>&1 & daemon=$!
until grep -q ready requests; do kill -0 $daemon; sleep 0.05; done
{{
{script}
}} 2>&1
kill $daemon; wait $daemon || true
"""
    judged = polkit(bus, around, OUR_BUS=OUR_BUS, IMPORT=IMPORT)
    assert "Traceback" not in judged.stdout + judged.stderr, judged.stdout + judged.stderr
    return judged.stdout


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
    each_time = ("auth_admin_keep", "auth_admin", "auth_admin")
    assert set(actions) == {deed.action for deed in DEEDS.values()}
    assert actions.pop("check") == ("yes", "auth_admin", "auth_admin")
    assert actions == dict.fromkeys(actions, each_time)


@pytest.mark.parametrize("action", ["check", "reboot"])
def test_polkit_lets_root_through_and_asks_a_remote_user_for_a_password(bus: str, action: str) -> None:
    judged = polkit(
        bus,
        f"""
pkcheck --action-id {NAME}.{action} --process $$ && echo root passes
setpriv --reuid={OTHER} --regid={OTHER} --clear-groups sleep 60 & other=$!
until [ "$(stat -c %u /proc/$other)" = {OTHER} ]; do sleep 0.01; done
pkcheck --action-id {NAME}.{action} --process $other >/dev/null 2>&1 || echo "other: $?"
kill $other
""",
    )
    assert judged.stdout.splitlines() == ["root passes", "other: 2"], (
        "pkcheck(1): 2 is a challenge without an agent"
    )


ARGUMENTS = {"s": "string:beta", "t": "uint64:0"}


# What dbus-send can't: a call with an open file. It prints what dbus-send does of an error.
IMPORT = f"""
import asyncio, os, sys
from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

async def main():
    bus = await MessageBus(bus_address=os.environ["DBUS_SYSTEM_BUS_ADDRESS"], negotiate_unix_fd=True).connect()
    reply = await bus.call(Message(destination="{NAME}", path="{PATH}", interface="{NAME}", member="Import",
                                   signature="h", body=[0], unix_fds=[0]))
    if reply.message_type is MessageType.ERROR:
        sys.exit(f"Error {{reply.error_name}}: {{reply.body[0]}}")

user = int(sys.argv[1])
os.setgroups([])
os.setgid(user)
os.setuid(user)
asyncio.run(main())
"""


def calls(user: int, *members: str) -> str:
    """A script that calls each method as `user`, and prints a line for each: the method, and `done` or the error."""
    lines = []
    for member in members:
        signature = DEEDS[member].method.signature
        send = f"dbus-send --system --print-reply --dest={NAME} {PATH} {NAME}.{member} {ARGUMENTS.get(signature, '')}"
        command = f'{sys.executable} -c "$IMPORT" {user} </dev/null' if signature == "h" else f"as {user} {send}"
        lines.append(f'if told=$({command} 2>&1); then echo {member} done; else echo {member} "$told"; fi')
    return "\n".join(lines)


def outcomes(printed: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in printed.splitlines())


def test_root_passes_for_each_method(bus: str) -> None:
    told, requests = beside_the_daemon(bus, calls(0, *DEEDS) + "\necho; cat requests").split("\n\n")
    assert outcomes(told) == dict.fromkeys(DEEDS, "done")
    assert requests.splitlines() == ["ready", *(f"request {deed.event.__name__} root" for deed in DEEDS.values())]


def test_a_user_without_a_right_is_refused_each_method_by_name(bus: str) -> None:
    done = beside_the_daemon(bus, calls(OTHER, *DEEDS) + "\necho; cat requests")
    told, requests = done.split("\n\n")
    for member, outcome in outcomes(told).items():
        assert f"the action {NAME}.{DEEDS[member].action}: polkit says no." in outcome
        assert outcome.startswith(f"Error {NAME}.Error.NotAuthorized:")
    assert len(outcomes(told)) == len(DEEDS)
    assert requests.split() == ["ready"]


def test_a_rule_lets_one_user_do_one_thing_alone(bus: str) -> None:
    done = outcomes(beside_the_daemon(bus, calls(ALLOWED, *DEEDS)))
    assert [member for member, outcome in done.items() if outcome == "done"] == ["Hold"]
    assert all("polkit says no" in outcome for member, outcome in done.items() if member != "Hold")


def test_a_rule_sees_which_channel_is_wanted(bus: str) -> None:
    to_beta = calls(TESTER, "SetChannel")
    assert beside_the_daemon(bus, to_beta) == "SetChannel done\n"
    assert f"Error {NAME}.Error.NotAuthorized:" in beside_the_daemon(bus, to_beta.replace("beta", "stable"))


def test_a_person_at_the_console_may_check_and_is_asked_for_the_rest(bus: str) -> None:
    done = outcomes(beside_the_daemon(bus, calls(AT_THE_CONSOLE, *DEEDS)))
    assert [member for member, outcome in done.items() if outcome == "done"] == ["Check"]


def test_without_polkit_root_alone_passes(bus: str) -> None:
    done = beside_the_daemon(
        bus, f"kill $polkitd; wait $polkitd || true\n{calls(OTHER, 'Check')}\necho; {calls(0, 'Check')}"
    )
    refused, passed = done.split("\n\n")
    assert "polkit does not answer" in refused
    assert passed == "Check done\n"
