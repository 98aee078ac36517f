"""Whether there is a way out of the machine: default routes, as the kernel lists them."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from health import keys
from health.check import Attempt
from health.probes import Surroundings, nothing_told, of_the_kernel

Family = Literal["ipv4", "ipv6", "any"]

PLACES = {"ipv4": "/proc/net/route", "ipv6": "/proc/net/ipv6_route"}
_UP, _REJECT = 0x1, 0x200
"""RTF_UP and RTF_REJECT of linux/route.h; IPv6 always has a default route that rejects."""


@dataclass(frozen=True, slots=True)
class RouteProbe:
    """There is a default route of the `family`. It says nothing of what lies behind."""

    type: ClassVar[str] = "route"
    family: Family = "any"

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        families = tuple(PLACES) if self.family == "any" else (self.family,)
        texts = {family: of_the_kernel(around, PLACES[family]) for family in families}
        if all(text is None for text in texts.values()):
            return nothing_told(around, " or ".join(PLACES[family] for family in families))
        found = [
            f"{family} by {device}" for family, text in texts.items() for device in default_devices(family, text or "")
        ]
        if found:
            return Attempt("pass", f"default route of {', '.join(found)}")
        return Attempt("fail", f"there is no default route of {' or '.join(families)}")


def default_devices(family: str, text: str) -> list[str]:
    """The devices of the default routes that are up and lead out of the machine."""
    devices: list[str] = []
    for line in text.splitlines():
        fields = line.split()
        if family == "ipv4" and len(fields) >= 8 and fields[0] != "Iface":
            device, destination, flags, mask = fields[0], fields[1], fields[3], fields[7]
        elif family == "ipv6" and len(fields) >= 10:
            destination, mask, flags, device = fields[0], fields[1], fields[8], fields[9]
        else:
            continue
        everywhere = int(destination, 16) == int(mask, 16) == 0
        if everywhere and device != "lo" and int(flags, 16) & (_UP | _REJECT) == _UP:
            devices.append(device)
    return devices


TYPES = {RouteProbe.type: keys.Type(RouteProbe, {"family": keys.one_of("ipv4", "ipv6", "any")})}
