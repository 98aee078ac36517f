"""Whether the image that booted is the one that was armed."""

from dataclasses import dataclass
from typing import ClassVar

from bootctl.active import running_slot
from bootctl.precedence import same_version
from bootctl.settings import boot_settings, load
from health import keys
from health.baseline import NoBaseline, read
from health.check import Attempt
from health.probes import Surroundings
from health.system import image_version


@dataclass(frozen=True, slots=True)
class BootedVersionProbe:
    """os-release of the slot that runs names the version for which the baseline was taken in the other slot."""

    type: ClassVar[str] = "booted-version"

    def attempt(self, timeout: float, around: Surroundings) -> Attempt:
        armed = read(around.root)
        if isinstance(armed, NoBaseline):
            return Attempt("skip", f"which version was armed is not known: {armed.reason}")
        if armed.target is None:
            return Attempt("skip", "which version was armed was not told")
        if armed.slot == running_slot(boot_settings(load(around.root), around.root)):
            return Attempt("skip", f"slot {armed.slot}, from which {armed.target} was armed, runs")
        version = image_version(around.root)
        if version is not None and same_version(version, armed.target):
            return Attempt("pass", f"{version} was armed, and runs")
        return Attempt("fail", f"{armed.target} was armed, but {version or 'an unknown version'} runs", final=True)


TYPES = {BootedVersionProbe.type: keys.Type(BootedVersionProbe, {})}
