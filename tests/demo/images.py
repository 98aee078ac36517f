"""The real root file systems of the demo, built once and kept."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.demo.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
RECIPE = ROOT / "packaging/image"
FOLDER = ROOT / "build/images"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one release is built: from which packages, with what on top, and what it is in the story."""

    version: str
    sources: str
    overlay: str | None
    include: str | None
    story: str

    @property
    def base(self) -> Path:
        """The packages, which releases that differ in their overlay share."""
        return FOLDER / f"base-{self.sources}{'-' + self.include.replace(',', '-') if self.include else ''}.tar"


RECIPES = (
    Recipe("1.0.0", "release-only", None, None, "Debian 12 as it was released"),
    Recipe("1.1.0", "all", None, None, "with all updates and security updates since"),
    Recipe("1.2.0", "all", "overlay-broken-web", None, "with a mistake in the configuration of its web server"),
    Recipe("1.3.0", "all", None, "curl,openssh-client,rsync", "without the mistake, and with some tools more"),
)


def build_images(terminal: Terminal) -> dict[str, Path]:
    """The image of each release; a new one is only built when the recipe or what it installs changed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    images = {}
    for recipe in RECIPES:
        image = FOLDER / f"{recipe.version}.erofs"
        images[recipe.version] = image
        begun = time.monotonic()
        if not image.exists() or image.stat().st_mtime < _newest():
            _build(recipe, image, terminal)
            how = f"built in {time.monotonic() - begun:.0f} s"
        else:
            how = "kept from before"
        terminal.say(f"{recipe.version}: {recipe.story}; {image.stat().st_size / 1e6:.1f} MB, {how}")
    return images


def _newest() -> float:
    sources = [path for folder in (RECIPE, ROOT / "health", ROOT / "bootctl") for path in folder.rglob("*")]
    files = [path for path in [Path(__file__), *sources] if path.is_file() and "__pycache__" not in path.parts]
    return max(path.stat().st_mtime for path in files)


def _build(recipe: Recipe, image: Path, terminal: Terminal) -> None:
    partial = image.with_suffix(".partial")
    command = [
        str(RECIPE / "build-rootfs"), "--version", recipe.version, "--sources", recipe.sources,
        "--base-tar", str(recipe.base), "--output", str(partial),
    ]
    if recipe.include is not None:
        command += ["--include", recipe.include]
    if recipe.overlay is not None:
        command += ["--overlay", str(RECIPE / recipe.overlay)]
    log = FOLDER / f"{recipe.version}.log"
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        while process.poll() is None:
            terminal.waiting(f"builds the root file system of {recipe.version}")
            time.sleep(0.5)
    if process.returncode != 0:
        raise SystemExit(f"the image of {recipe.version} could not be built:\n{log.read_text()[-3000:]}")
    partial.replace(image)
