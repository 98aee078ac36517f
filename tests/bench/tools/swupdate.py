"""SWUpdate: a signed archive with the whole image, streamed into the slot, or with the header of a zchunk file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Step
from tests.bench.tools.archive import write_archive
from tests.bench.tools.streams import compressed
from tests.bench.tools.tool import Job, Place, Tool, make, output_of, package_version, sync
from tests.bench.tools.zchunk import zchunk_file

_DESCRIPTION = """\
software = {{
  version = "1.0.0";
  hardware-compatibility: [ "1.0" ];
  images: ( {{ filename = "{file}"; device = "{slot}"; sha256 = "{digest}"; {rest} }} );
}}
"""
# Now and then its exit status says that it failed when all is installed; the slot is looked at anyway.
_SUCCESS = "SWUPDATE successful"
_STREAMED = 'type = "raw"; compressed = "zstd"; installed-directly = true;'
_DELTA = 'type = "delta"; properties: {{ url = "{url}"; source = "{source}"; chain = "raw"; zckloglevel = "error"; }};'


class Swupdate(Tool):
    """The whole image, compressed with zstd, installed while it comes."""

    name = "SWUpdate"
    folder = "whole"
    programs: tuple[str, ...] = ("swupdate", "openssl", "zstd")
    payload = "image.zst"
    needs_devices = True

    def version(self) -> str:
        return package_version("swupdate")

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            compressed(job.new, folder)
        _certificate(folder)
        self._folder = folder

    def prepare(self, job: Job, place: Place) -> None:
        """The archive names the device of the slot, so it is made for each run."""
        payload = self.contents(job, place)
        description = place.work / "sw-description"
        description.write_text(
            _DESCRIPTION.format(
                file=self.payload, slot=place.slot, digest=_digest(payload), rest=self.how(job, place)
            )
        )
        signature = place.work / "sw-description.sig"
        subprocess.run(
            [
                "openssl", "cms", "-sign", "-in", str(description), "-out", str(signature), "-signer",
                str(self._folder / "cert.pem"), "-inkey", str(self._folder / "key.pem"), "-outform", "DER",
                "-nosmimecap", "-binary",
            ],
            check=True, timeout=60,
        )  # fmt: skip
        archive = self._folder / f"{type(self).__name__}.swu"
        write_archive(
            archive, {description.name: description, signature.name: signature, self.payload: payload}
        )

    def contents(self, job: Job, place: Place) -> Path:
        """What the archive holds besides its description."""
        return compressed(job.new, self._folder)

    def how(self, job: Job, place: Place) -> str:
        """What the description says about it."""
        return _STREAMED

    def steps(self, job: Job, place: Place) -> list[Step]:
        download = ["-d", f"-u {place.url}/{type(self).__name__}.swu"]
        environment = {"TMPDIR": str(place.work)}
        command = [*self.command(), *download]
        install = Step("install", command, environment=environment, success=_SUCCESS)
        return [install, sync(place)]

    def command(self) -> list[str]:
        """The program, with what does not depend on where the archive comes from."""
        return ["swupdate", "-k", str(self._folder / "cert.pem"), "-H", "bench:1.0", "-l", "2"]


class SwupdateDelta(Swupdate):
    """Chunks of a zchunk file beside the archive; those that the running slot has are copied."""

    name = "SWUpdate delta"
    folder = "zchunk"
    programs = (*Swupdate.programs, "curl", "zck", "zck_read_header")
    payload = "image.header"
    delta = True

    def missing(self) -> str:
        reason = super().missing()
        program = shutil.which("swupdate")
        if not reason and program is not None and b"install_delta" not in Path(program).read_bytes():
            return "this build of SWUpdate has no delta handler"
        return reason

    def publish(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            zchunk_file(job.new, folder)
        _certificate(folder)
        self._folder = folder

    def steps(self, job: Job, place: Place) -> list[Step]:
        # Its own downloader, done with so small an archive, now and then ends the program in the middle of its work.
        archive = place.work / "delta.swu"
        url = f"{place.url}/{type(self).__name__}.swu"
        environment = {"TMPDIR": str(place.work)}
        command = [*self.command(), "-i", str(archive)]
        return [
            Step("download", ["curl", "--silent", "--show-error", "--fail", "-o", str(archive), url]),
            Step("install", command, environment=environment, success=_SUCCESS),
            sync(place),
        ]

    def contents(self, job: Job, place: Place) -> Path:
        file = zchunk_file(job.new, self._folder)
        header = place.work / self.payload
        with file.open("rb") as source:
            header.write_bytes(source.read(_header_size(file)))
        return header

    def how(self, job: Job, place: Place) -> str:
        nothing = place.work / "nothing"
        nothing.write_bytes(bytes(4096))
        source = place.running if job.old is not None else str(nothing)
        return _DELTA.format(url=f"{place.url}/{job.new.name}.zck", source=source)


def _certificate(folder: Path) -> None:
    make(
        folder / "cert.pem",
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem"),
            "-out", "{}", "-days", "3650", "-subj", "/CN=bench", "-addext", "extendedKeyUsage=emailProtection",
            "-addext", "keyUsage=digitalSignature",
        ],
    )  # fmt: skip


def _digest(path: Path) -> str:
    return output_of("sha256sum", os.fspath(path)).split()[0]


def _header_size(file: Path) -> int:
    for line in output_of("zck_read_header", "-v", str(file)).splitlines():
        if line.startswith("Header size: "):
            return int(line.split()[-1])
    raise RuntimeError(f"{file.name} is no zchunk file")
