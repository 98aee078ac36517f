"""What an interface on the bus consists of, and its description in XML.

The form is that of the D-Bus specification, "Introspection Data Format", with the annotation
`org.freedesktop.DBus.Property.EmitsChangedSignal` from "Standard Interfaces".
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

NAME = "org.updated.Updated1"
PATH = "/org/updated/Updated1"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
PEER = "org.freedesktop.DBus.Peer"
PROPERTIES = "org.freedesktop.DBus.Properties"
EMITS_CHANGED = "org.freedesktop.DBus.Property.EmitsChangedSignal"
DOCTYPE = """\
<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
"""

# Name and signature.
Argument = tuple[str, str]


# What PropertiesChanged tells of a property, in the words of the specification: its value, or its name alone.
Emits = Literal["true", "invalidates"]


class Method(NamedTuple):
    """A method; `text` says what it does."""

    name: str
    takes: tuple[Argument, ...] = ()
    gives: tuple[Argument, ...] = ()
    text: str = ""

    @property
    def signature(self) -> str:
        """The signature of a call."""
        return "".join(signature for _, signature in self.takes)


class Property(NamedTuple):
    """A property, which is read and never set; `value` takes it out of the status document."""

    name: str
    signature: str
    text: str
    value: Callable[[Mapping[str, Any]], Any]
    emits: Emits = "true"


class Signal(NamedTuple):
    """A signal; `text` says when it is sent."""

    name: str
    carries: tuple[Argument, ...]
    text: str = ""

    @property
    def signature(self) -> str:
        """The signature of its body."""
        return "".join(signature for _, signature in self.carries)


class Interface(NamedTuple):
    """An interface of an object."""

    name: str
    methods: Sequence[Method] = ()
    properties: Sequence[Property] = ()
    signals: Sequence[Signal] = ()

    def method(self, name: str) -> Method | None:
        """The method called `name`."""
        return next((each for each in self.methods if each.name == name), None)


# What each object on a bus has.
STANDARD = (
    Interface(INTROSPECTABLE, (Method("Introspect", gives=(("xml_data", "s"),)),)),
    Interface(PEER, (Method("Ping"), Method("GetMachineId", gives=(("machine_uuid", "s"),)))),
    Interface(
        PROPERTIES,
        (
            Method("Get", (("interface_name", "s"), ("property_name", "s")), (("value", "v"),)),
            Method("GetAll", (("interface_name", "s"),), (("properties", "a{sv}"),)),
            Method("Set", (("interface_name", "s"), ("property_name", "s"), ("value", "v"))),
        ),
        signals=(
            Signal(
                "PropertiesChanged",
                (("interface_name", "s"), ("changed_properties", "a{sv}"), ("invalidated_properties", "as")),
            ),
        ),
    ),
)


def description(interfaces: Sequence[Interface], children: Sequence[str] = ()) -> str:
    """An object with `interfaces`, and the names of the objects directly below it."""
    node = ET.Element("node")
    for interface in interfaces:
        _describe(ET.SubElement(node, "interface", name=interface.name), interface)
    for child in children:
        ET.SubElement(node, "node", name=child)
    ET.indent(node)
    return DOCTYPE + ET.tostring(node, encoding="unicode") + "\n"


def child_of(path: str) -> str | None:
    """The name of the next object on the way from `path` to ours; None when ours is not below `path`."""
    above = path.rstrip("/") + "/"
    return PATH.removeprefix(above).split("/")[0] if PATH.startswith(above) else None


def _describe(element: ET.Element, interface: Interface) -> None:
    for method in interface.methods:
        described = ET.SubElement(element, "method", name=method.name)
        for direction, arguments in (("in", method.takes), ("out", method.gives)):
            for name, signature in arguments:
                ET.SubElement(described, "arg", name=name, type=signature, direction=direction)
    for signal in interface.signals:
        described = ET.SubElement(element, "signal", name=signal.name)
        for name, signature in signal.carries:
            ET.SubElement(described, "arg", name=name, type=signature)
    for each in interface.properties:
        described = ET.SubElement(element, "property", name=each.name, type=each.signature, access="read")
        ET.SubElement(described, "annotation", name=EMITS_CHANGED, value=each.emits)
