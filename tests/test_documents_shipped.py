"""The pages that the package ships lead to nothing that it does not ship, and say so where they name the sources."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging.shipped import REPOSITORY as ROOT

INSTALL = "debian/install-documents"
TARGETS = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
# What is found in a clone alone.
_OF_THE_SOURCES = re.compile(
    rf"(?<![\w/])(?:packaging|tests)[./]\w[\w./@*-]*|\bMakefile\b|\.venv\b|pyproject|pip install '?\.|"
    rf"README of|\bmake (?:{'|'.join(TARGETS)})\b(?! [a-z])"
)
_SAYS_SO = re.compile(r"\b(?:in|from|of) the sources\b", re.IGNORECASE)


def shipped() -> list[Path]:
    """The documents that the package has, as `install-documents` names them."""
    patterns = re.findall(r'\("(\w+/\*\.md)"', (ROOT / "packaging" / INSTALL).read_text())
    [folders] = re.findall(r"for each in \(([^)]*)\)", (ROOT / "packaging" / INSTALL).read_text())
    pages = [page for pattern in patterns for page in (ROOT / "packaging").glob(pattern)]
    return sorted([*pages, *(ROOT / f"packaging/{name}/README.md" for name in re.findall(r'"([\w-]+)"', folders))])


def unsaid(text: str) -> list[str]:
    """What a page names of the sources without the words, neither in that section nor at its top."""
    parts = re.split(r"^(?=#+ )", re.sub(r"^(```sh\n)((?:.*\n)*?)(```)$", _kept, text, flags=re.MULTILINE), flags=re.M)
    top, *sections = [part for part in parts if part.strip()]
    if _says_so(top):
        return []
    return [name for part in (top, *sections) if not _says_so(part) for name in _OF_THE_SOURCES.findall(part)]


def _kept(block: re.Match[str]) -> str:
    # A comment of a shell script begins like a heading.
    return block[1] + re.sub(r"^#+", "", block[2], flags=re.MULTILINE) + block[3]


def _says_so(part: str) -> bool:
    return _SAYS_SO.search(" ".join(part.split())) is not None


def install(tree: Path, node: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, ROOT / "packaging" / INSTALL, node), cwd=tree, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def test_the_shipped_pages_are_known() -> None:
    assert len(shipped()) >= 24
    assert {ROOT / "packaging/doc/publishing.md", ROOT / "packaging/grub/README.md"} <= set(shipped())


def test_no_shipped_page_links_to_a_file_that_is_not_shipped(tmp_path: Path) -> None:
    done = install(ROOT, tmp_path)
    assert done.returncode == 0, done.stderr
    installed = tmp_path / "usr/share/doc/updated"
    assert len(list(installed.rglob("*.md"))) == len(shipped())
    for page in installed.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("link", ["../../README.md#publish", "../systemd", "../../tests/documents.py", "nowhere.md"])
def test_such_a_link_is_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "packaging/doc").mkdir(parents=True)
    (tmp_path / "packaging/doc/more.md").write_text(f"See [there]({link}).\n")
    done = install(tmp_path, tmp_path / "node")
    assert done.returncode != 0
    assert f"packaging/doc/more.md: nobody installs {link.partition('#')[0]}" in done.stderr


@pytest.mark.parametrize("page", shipped(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_shipped_page_says_what_is_in_the_sources_alone(page: Path) -> None:
    assert unsaid(page.read_text()) == []


@pytest.mark.parametrize(
    "wrong", ["`make deb` builds it.", "from tests.fakes import x", "see the README of it", "`tests/attack/` does",
              "`packaging/systemd` has it", "pip install '.[publish]'", ".venv/bin/python"]
)  # fmt: skip
def test_a_name_without_the_words_is_found(wrong: str) -> None:
    assert unsaid(f"# Page\n\nAbout it. The sources are elsewhere.\n\n## Part\n\n{wrong}\n") != []
    assert unsaid(f"# Page\n\nAbout it.\n\n## Part\n\nIn the\nsources: {wrong}\n") == []
    assert unsaid(f"# Page\n\nAll of this is in the sources.\n\n## Part\n\n{wrong}\n") == []


def test_words_that_are_no_names_are_no_fault() -> None:
    assert unsaid("# Page\n\nThe tests. Make a bundle; what tests show; packaging is easy; /usr/lib/tests/x\n") == []
