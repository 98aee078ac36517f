"""What the interface shows to those who ask: introspection, properties, and the errors of the specification."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from dbus_next import Message, MessageType, Variant

from tests.bus.raw import client
from tests.bus.world import Node, asked, document, property_of, with_node
from tests.documents import BUS_DESCRIPTION
from updated.bus.interface import NAME, PATH, STANDARD, Interface, description
from updated.bus.methods import DEEDS
from updated.bus.properties import INTERFACE, PROPERTIES, values
from updated.core import status
from updated.core.errors import CODES, UpdatedError
from updated.core.state import Phase

PROPERTIES_OF = "org.freedesktop.DBus.Properties"


def test_busctl_shows_each_method_property_and_signal_with_its_signature(bus: str) -> None:
    done = with_node(bus, lambda node: asked(bus, "introspect", NAME, PATH, NAME))
    shown = {(words[0], words[1], words[2]) for words in map(str.split, done.stdout.splitlines()[1:])}
    expected = {(f".{each.name}", "method", each.signature or "-") for each in INTERFACE.methods}
    expected |= {(f".{each.name}", "property", each.signature) for each in INTERFACE.properties}
    expected |= {(f".{each.name}", "signal", each.signature) for each in INTERFACE.signals}
    assert shown == expected


def test_busctl_shows_which_properties_announce_their_value(bus: str) -> None:
    done = with_node(bus, lambda node: asked(bus, "introspect", NAME, PATH, NAME))
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    for each in PROPERTIES:
        flag = {"true": "emits-change", "invalidates": "emits-invalidation"}[each.emits]
        assert flag in lines[f".{each.name}"].split()


def test_the_file_for_generators_is_what_introspection_shows(bus: str) -> None:
    done = with_node(bus, lambda node: asked(bus, "introspect", "--xml-interface", NAME, PATH))
    ours = [each for each in ET.fromstring(done.stdout) if each.get("name") == NAME]
    (shipped,) = ET.parse(BUS_DESCRIPTION).getroot()
    assert [ET.canonicalize(ET.tostring(each), strip_text=True) for each in ours] == [
        ET.canonicalize(ET.tostring(shipped), strip_text=True)
    ]
    assert BUS_DESCRIPTION.read_text() == description([INTERFACE]), "it is out of date: run 'make docs'"


def test_the_file_keeps_to_the_document_type_of_introspection() -> None:
    judged = subprocess.run(
        ["xmllint", "--noout", "--nonet", str(BUS_DESCRIPTION)], capture_output=True, text=True, check=False
    )
    assert (judged.returncode, judged.stderr) == (0, "")


def test_busctl_finds_the_object_from_the_root(bus: str) -> None:
    done = with_node(bus, lambda node: asked(bus, "tree", "--list", NAME))
    assert done.stdout.split() == ["/", "/org", "/org/updated", PATH]


def test_every_argument_has_a_name() -> None:
    interfaces: tuple[Interface, ...] = (INTERFACE, *STANDARD)
    for interface in interfaces:
        methods = [argument for method in interface.methods for argument in (*method.takes, *method.gives)]
        signals = [argument for signal in interface.signals for argument in signal.carries]
        assert all(name for name, _ in (*methods, *signals))


def test_no_two_members_share_a_name() -> None:
    names = [each.name for each in INTERFACE.methods]
    names += [each.name for each in INTERFACE.properties]
    names += [each.name for each in INTERFACE.signals]
    assert len(set(names)) == len(names)


def test_every_key_of_the_status_is_a_property() -> None:
    keys = set(re.findall(r"^        \"(\w+)\":", inspect.getsource(status.status_document), re.MULTILINE))
    source = inspect.getsource(inspect.getmodule(values))  # type: ignore[arg-type]
    # Of the document itself, and of the process, which the bus knows.
    own = {"schema", "written_at", "pid", "pid_start"}
    assert {key for key in keys if f'"{key}"' not in source} == own


def test_busctl_reads_each_property_alone_and_all_at_once(bus: str) -> None:
    async def read(node: Node) -> tuple[dict[str, Any], dict[str, Any]]:
        each = {one.name: await property_of(bus, one.name) for one in PROPERTIES}
        done = await asked(bus, "--json=short", "call", NAME, PATH, PROPERTIES_OF, "GetAll", "s", NAME)
        (every,) = json.loads(done.stdout)["data"]
        return each, {name: value["data"] for name, value in every.items()}

    each, every = with_node(bus, read)
    assert each == every == values(document())
    assert each["Version"] == "1.0"
    assert each["Slots"][0] == ["a", "1.0", "good", 0, True, True]
    assert json.loads(each["Status"]) == document()


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_can_be_told(bus: str, phase: Phase) -> None:
    async def told(node: Node) -> str:
        node.becomes(phase)
        return str(await property_of(bus, "Phase"))

    assert with_node(bus, told) == phase.value


def test_text_that_no_string_on_the_bus_may_hold_is_mended() -> None:
    notes = ("a\0b", "c\ud800d")
    assert values(document(report=status.Report(notes=notes)))["Notes"] == ["a\ufffdb", "c\ufffdd"]


# --------------------------------------------------------------------------------------- errors of the specification

STANDARD_ERRORS = [
    ((PATH, NAME, "Nonsense", ""), "UnknownMethod"),
    ((PATH, None, "Nonsense", ""), "UnknownMethod"),
    ((PATH, "org.example.Other", "Check", ""), "UnknownInterface"),
    (("/org/example", NAME, "Check", ""), "UnknownObject"),
    (("/org/updated/Updated1/more", NAME, "Check", ""), "UnknownObject"),
    (("/org/updated", NAME, "Check", ""), "UnknownInterface"),
    ((PATH, NAME, "SetChannel", ""), "InvalidArgs"),
    ((PATH, NAME, "Check", "s", "more"), "InvalidArgs"),
    ((PATH, NAME, "SetChannel", "t", 7), "InvalidArgs"),
    ((PATH, PROPERTIES_OF, "Get", "ss", NAME, "Nonsense"), "UnknownProperty"),
    ((PATH, PROPERTIES_OF, "Get", "ss", PROPERTIES_OF, "Version"), "UnknownProperty"),
    ((PATH, PROPERTIES_OF, "Get", "ss", "org.example.Other", "Version"), "UnknownInterface"),
    ((PATH, PROPERTIES_OF, "GetAll", "s", "org.example.Other"), "UnknownInterface"),
    ((PATH, PROPERTIES_OF, "Get", "s", NAME), "InvalidArgs"),
    ((PATH, PROPERTIES_OF, "Set", "ssv", NAME, "Version", Variant("s", "2.0")), "PropertyReadOnly"),
    ((PATH, PROPERTIES_OF, "Set", "ssv", NAME, "Nonsense", Variant("s", "")), "UnknownProperty"),
]


@pytest.mark.parametrize(("call", "error"), STANDARD_ERRORS)
def test_a_call_that_is_wrong_in_itself_gets_the_error_of_the_specification(
    bus: str, call: tuple[Any, ...], error: str
) -> None:
    path, interface, member, signature, *body = call

    async def wrong(node: Node) -> tuple[Message, list[Any]]:
        async with client(bus) as other:
            return await other.call(path, interface, member, signature, body), node.requests

    reply, requests = with_node(bus, wrong)
    assert reply.error_name == f"org.freedesktop.DBus.Error.{error}"
    assert requests == []


@pytest.mark.parametrize(
    ("path", "member"), [(PATH, "Ping"), ("/", "Ping"), (PATH, "GetMachineId"), ("/org", "Introspect")]
)
def test_the_standard_methods_are_there_also_without_their_interface(bus: str, path: str, member: str) -> None:
    async def ask(node: Node) -> Message:
        async with client(bus) as other:
            return await other.call(path, None, member)

    assert with_node(bus, ask).message_type is MessageType.METHOD_RETURN


# --------------------------------------------------------------------------------------------------------- our errors


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_has_the_name_of_its_code_and_says_thing_cause_and_mend(bus: str, code: str) -> None:
    async def refused(node: Node) -> Message:
        node.refusal = UpdatedError(code, "the thing", "the cause", "The mend.")
        async with client(bus) as other:
            return await other.call(PATH, NAME, "Check")

    reply = with_node(bus, refused)
    name = "".join(word.capitalize() for word in code.split("-"))
    assert reply.error_name == f"org.updated.Updated1.Error.{name}"
    assert reply.body == ["the thing: the cause. The mend."]


@pytest.mark.parametrize(
    ("member", "signature", "body"),
    [
        ("SetChannel", "s", ["No Name!"]), ("Hold", "t", [2**64 - 1]), ("Allow", "s", [""]),
        ("Allow", "s", ["1" * 1_000_000]), ("SetChannel", "s", ["x" * 1_000_000]),
    ],
)  # fmt: skip
def test_an_argument_that_makes_no_sense_is_a_bad_request_before_anybody_is_asked(
    bus: str, member: str, signature: str, body: list[Any]
) -> None:
    async def wrong(node: Node) -> tuple[Message, list[Any]]:
        async with client(bus) as other:
            return await other.call(PATH, NAME, member, signature, body), node.requests

    reply, requests = with_node(bus, wrong)
    assert reply.error_name == "org.updated.Updated1.Error.BadRequest"
    assert len(reply.body[0]) < 1000
    assert requests == []


def test_an_error_that_nobody_expected_shows_nothing_of_the_program(
    bus: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(node: Node) -> Message:
        node.bus._request = lambda *_, **__: 1 / 0  # type: ignore[assignment]
        async with client(bus) as other:
            return await other.call(PATH, NAME, "Check")

    reply = with_node(bus, broken)
    assert reply.error_name == "org.updated.Updated1.Error.Internal"
    assert reply.body == ["an unexpected error: see the log of updated"]
    assert "ZeroDivisionError" in caplog.text


def test_each_method_becomes_its_event_with_the_callers_name(bus: str) -> None:
    bodies: dict[str, list[Any]] = {"SetChannel": ["beta"], "Hold": [0], "Allow": ["1.0"]}

    async def every(node: Node) -> list[tuple[str, dict[str, Any]]]:
        async with client(bus) as other:
            for name, deed in DEEDS.items():
                if name != "Import":
                    reply = await other.call(PATH, NAME, name, deed.method.signature, bodies.get(name, []))
                    assert reply.message_type is MessageType.METHOD_RETURN
        return node.requests

    requests = with_node(bus, every)
    assert [name for name, _ in requests] == [deed.event.__name__ for name, deed in DEEDS.items() if name != "Import"]
    extra = [{key: value for key, value in fields.items() if key != "by"} for _, fields in requests]
    assert [each for each in extra if each] == [
        {"force": True}, {"force": True}, {"channel": "beta"}, {"until": None}, {"version": "1.0"},
    ]  # fmt: skip
    assert all(fields["by"] for _, fields in requests)


def test_who_wants_no_answer_gets_none(bus: str) -> None:
    async def quiet(node: Node) -> tuple[int, list[Any]]:
        async with client(bus) as other:
            await other.say(PATH, NAME, "Check")
            await other.say(PATH, NAME, "Nonsense")
            await other.call(PATH, None, "Ping")
            while not node.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await other.call(PATH, None, "Ping")
            return other.strays, node.requests

    strays, requests = with_node(bus, quiet)
    assert strays == 0
    assert [name for name, _ in requests] == ["CheckRequested"]


