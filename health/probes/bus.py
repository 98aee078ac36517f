"""Names on the system bus, through busctl(1)."""

from dataclasses import dataclass
from typing import ClassVar

from health import keys
from health.check import Attempt
from health.probes import Surroundings, cause, headed

_ASK = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner", "s")


@dataclass(frozen=True, slots=True)
class BusNameProbe:
    """Somebody owns `name` on the system bus; that it could be started on demand is not enough."""

    type: ClassVar[str] = "dbus-name"
    name: str

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        if around.root != "/":
            return Attempt("skip", "no bus below --root")
        try:
            asked = around.commands.run(
                ("env", "LC_ALL=C", "busctl", "--system", "call", *_ASK, self.name), timeout_seconds=timeout
            )
        except OSError as error:
            return Attempt("fail", f"busctl can't be started: {cause(error)}", final=True)
        if asked.status is None:
            return Attempt("timeout", f"the bus gave no answer within {timeout:g} s")
        if asked.status != 0:
            return Attempt("fail", headed(f"busctl: exit status {asked.status}", asked.output))
        if asked.output.split() == ["b", "true"]:
            return Attempt("pass", f"{self.name} has an owner")
        return Attempt("fail", f"nobody owns {self.name} on the system bus")


TYPES = {
    BusNameProbe.type: keys.Type(
        BusNameProbe,
        {
            # The D-Bus specification, "Bus names".
            "name": keys.matching(
                r"(?=.{3,255}\Z)[A-Za-z_-][A-Za-z0-9_-]*(\.[A-Za-z_-][A-Za-z0-9_-]*)+",
                "Write a well-known bus name, such as org.freedesktop.login1.",
            )
        },
        needed=("name",),
    )
}
