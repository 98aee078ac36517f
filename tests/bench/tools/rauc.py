"""RAUC: a signed bundle, downloaded to temporary storage as a whole, checked, mounted, and copied into the slot."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Step
from tests.bench.tools.tool import LEVEL, Job, Place, Tool, make, package_version

_MANIFEST = """\
[update]
compatible=bench
version=1.0.0

[bundle]
format=plain

[image.rootfs]
filename=rootfs.img
"""
_SETTINGS = """\
[system]
compatible=bench
bootloader=noop
bundle-formats=plain
mountprefix={work}/mount
statusfile={work}/status
max-bundle-download-size=8589934592

[keyring]
path={certificate}
check-purpose=any

[slot.rootfs.0]
device={running}
type=raw
bootname=a

[slot.rootfs.1]
device={slot}
type=raw
bootname=b
"""
_BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={work}/bus</listen>
  <servicedir>{work}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
_SERVICE = """\
[D-BUS Service]
Name=de.pengutronix.rauc
Exec=/usr/bin/rauc --conf={work}/system.conf --override-boot-slot=a service
"""


class Rauc(Tool):
    """A plain bundle. Bundles with adaptive updates need a kernel with dm-verity and NBD."""

    name = "RAUC"
    folder = "rauc"
    programs = ("rauc", "mksquashfs", "dbus-run-session", "openssl")
    needs_devices = True

    def version(self) -> str:
        return package_version("rauc")

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        self._certificate = folder / "cert.pem"
        key = folder / "key.pem"
        make(
            self._certificate,
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", "{}",
                "-days", "3650", "-subj", "/CN=bench",
            ],
        )  # fmt: skip
        for job in jobs:
            bundle = folder / f"{job.new.name}-{LEVEL}.raucb"
            if bundle.exists():
                continue
            with tempfile.TemporaryDirectory(dir=folder) as content:
                (Path(content) / "manifest.raucm").write_text(_MANIFEST)
                _link(job.new.path, Path(content) / "rootfs.img")
                make(
                    bundle,
                    [
                        "rauc", f"--cert={self._certificate}", f"--key={key}",
                        f"--mksquashfs-args=-comp zstd -Xcompression-level {LEVEL}", "bundle", content, "{}",
                    ],
                )  # fmt: skip

    def prepare(self, job: Job, place: Place) -> None:
        (place.work / "mount").mkdir(exist_ok=True)
        settings = _SETTINGS.format(
            work=place.work, certificate=self._certificate.resolve(), running=place.running, slot=place.slot
        )
        (place.work / "system.conf").write_text(settings)
        (place.work / "bus.conf").write_text(_BUS.format(work=place.work))
        (place.work / "de.pengutronix.rauc.service").write_text(_SERVICE.format(work=place.work))

    def steps(self, job: Job, place: Place) -> list[Step]:
        # The bus starts the service of RAUC, as on a real system.
        bus = ["dbus-run-session", f"--config-file={place.work}/bus.conf", "--"]
        install = ["rauc", f"--conf={place.work}/system.conf", "install", f"{place.url}/{job.new.name}-{LEVEL}.raucb"]
        environment = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={place.work}/bus", "TMPDIR": str(place.work)}
        return [
            Step(
                "install", [*bus, *install], environment=environment,
                infrastructure=frozenset({"dbus-run-session", "dbus-daemon", "dbus-run-sessio"}),
            )
        ]  # fmt: skip


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
