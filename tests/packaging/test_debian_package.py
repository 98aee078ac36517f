"""The Debian packages: built, judged by lintian, and installed, upgraded, removed and purged in a clean Debian.

The clean Debian is of the release that the tests run on, since that is what a package is for.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootctl import settings
from tests.packaging.shipped import PACKAGING, REPOSITORY
from tests.test_documents import anchors
from updated.config import read_settings

TOOLS = ("dpkg-buildpackage", "dh", "lintian", "mmdebstrap", "scdoc")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
LOCKS = sorted(PACKAGING.glob("requirements*.lock"))
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
BUILD = REPOSITORY / "build/deb"
UNCHECKED_HASH = 0b01

clean_system = pytest.mark.skipif(
    os.geteuid() != 0 or bool(MISSING), reason=f"needs root, and {', '.join(MISSING) or 'nothing else'}"
)
slow = pytest.mark.timeout(600)


def pins(path: Path) -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9_-]+)==([^\s\\]+)", path.read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in found}


# ------------------------------------------------------------------------------------------------------------- locks


def test_what_is_packaged_is_what_the_tests_ran_with() -> None:
    tested = pins(PACKAGING / "constraints.txt")
    for lock in LOCKS:
        assert pins(lock).items() <= tested.items(), lock.name


def test_each_packaged_file_is_known_by_its_hash() -> None:
    for lock in LOCKS:
        for entry in re.split(r"\n(?=[A-Za-z])", lock.read_text())[1:]:
            assert "--hash=sha256:" in entry, entry


def test_the_locks_hold_each_dependency() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = {"node": project["dependencies"], "publisher": project["optional-dependencies"]["publish"]}
    for names, lock in (("node", "requirements.lock"), ("publisher", "requirements-publisher.lock")):
        assert {re.split(r"[\[><=]", each)[0] for each in wanted[names]} <= pins(PACKAGING / lock).keys()


def test_the_units_wait_for_every_place_of_a_configuration_that_outlives_a_boot() -> None:
    drop_in = (PACKAGING / "debian/configured.conf").read_text()
    waited = set(re.findall(r"^ConditionPathExists(?:Glob)?=\|(.*)$", drop_in, re.MULTILINE))
    folders = [each for each in (settings.VENDOR_FOLDER, *settings.LOCAL_FOLDERS) if not each.startswith("/run/")]
    assert waited == {settings.MAIN_FILE, *(f"{folder}/*.toml" for folder in folders)}


# --------------------------------------------------------------------------------------------------------- documents


def dead_links(folder: Path) -> list[str]:
    """Links of the documents below `folder` to files that are not there, or to headings."""
    dead = []
    for document in folder.rglob("*.md"):
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
                dead.append(f"{document.relative_to(folder)}: {link}")
    return dead


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the package has below /usr/share/doc/updated, and what belongs to it."""
    folder = tmp_path_factory.mktemp("documents")
    install = (sys.executable, PACKAGING / "debian/install-documents", folder)
    subprocess.run(install, cwd=REPOSITORY, check=True, timeout=60)
    return folder


def test_no_link_of_an_installed_document_is_dead(documents: Path) -> None:
    assert dead_links(documents) == []
    links = "[there](usr/share/doc/updated/grub/README.md#set-up) and [not there](../grub/README.md)\n"
    (documents / "more.md").write_text(links)
    assert dead_links(documents) == ["more.md: ../grub/README.md"]
    (documents / "more.md").unlink()


def test_each_document_and_what_a_boot_loader_needs_is_installed(documents: Path) -> None:
    share = documents / "usr/share"
    installed = {path.name for path in (share / "doc/updated").glob("*.md")}
    assert installed == {path.name for path in (PACKAGING / "doc").glob("*.md")}
    index = (share / "doc/updated/README.md").read_text()
    assert index.startswith("# Documents\n")
    for loader in ("grub", "systemd-boot", "uboot", "efi", "raspberry-pi"):
        assert f"]({loader}/README.md)" in index
    for script in ("grub/updated.cfg", "uboot/boot.cmd"):
        assert (share / "updated" / script).read_bytes() == (PACKAGING / script).read_bytes()
        assert f"/usr/share/updated/{script}" in (share / f"doc/updated/{script.split('/')[0]}/README.md").read_text()


def test_a_link_leads_to_where_its_file_is_installed(documents: Path) -> None:
    text = (documents / "usr/share/doc/updated/integrate.md").read_text()
    assert "](../../updated/grub/updated.cfg)" in text


@pytest.mark.parametrize("package", ["updated", "updated-publisher"])
def test_a_package_names_the_page_to_begin_with(documents: Path, package: str) -> None:
    script = (PACKAGING / f"debian/{package}.postinst").read_text()
    [page] = re.findall(r"^  (/usr/share/doc/\S+)$", script, re.MULTILINE)
    assert (documents / page.lstrip("/")).is_file()


def test_the_settings_to_begin_with_are_a_configuration(tmp_path: Path) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", (PACKAGING / "doc/getting-started.md").read_text(), re.DOTALL)
    (tmp_path / "etc/updated").mkdir(parents=True)
    (tmp_path / "etc/updated/updated.toml").write_text(block)
    found = read_settings(str(tmp_path))
    assert found.root_of_trust == str(tmp_path / "etc/updated/root.json")


# ------------------------------------------------------------------------------------------------------- the packages


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages, built as by `make deb`: if that was done for these sources, they are there.

    `test_debian_build` holds that they are built anew otherwise.
    """
    built = subprocess.run(
        [PACKAGING / "debian/build", BUILD, REPOSITORY / "dist"], capture_output=True, text=True, check=False,
        timeout=400,
    )
    assert built.returncode == 0, (built.stdout + built.stderr)[-4000:]
    folder = tmp_path_factory.mktemp("packages")
    for name in ("updated", "updated-publisher"):
        shutil.copy2(package(REPOSITORY / "dist", name), folder)
    return folder


def package(packages: Path, name: str) -> Path:
    [found] = packages.glob(f"{name}_{VERSION}-1_*.deb")
    return found


@pytest.fixture(scope="module")
def contents(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, tarfile.TarInfo]]:
    """What each package holds, by path."""
    folder = tmp_path_factory.mktemp("contents")
    found = {}
    for name in ("updated", "updated-publisher"):
        with (folder / name).open("wb") as stream:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", package(packages, name)], stdout=stream, check=True)
        with tarfile.open(folder / name) as archive:
            found[name] = {member.name.removeprefix("."): member for member in archive}
    return found


Contents = dict[str, dict[str, tarfile.TarInfo]]


@clean_system
@slow
def test_lintian_finds_nothing(packages: Path) -> None:
    judged = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", "--tag-display-limit=0", *sorted(packages.iterdir())],
        capture_output=True, text=True, check=False, timeout=200,
    )
    assert judged.stdout == ""


@clean_system
@slow
def test_a_node_gets_no_publisher_and_no_program_named_bootctl(contents: Contents) -> None:
    node = contents["updated"]
    assert not [path for path in node if "numpy" in path or "/publish/" in path or "releasectl" in path]
    assert not [path for path in node if path.endswith("/bin/bootctl")]
    assert "/usr/bin/updatectl" not in node
    assert "/etc/updated/updated.toml" not in node
    assert not [path for path in node if "/tests/" in path or "/test_data" in path]


@clean_system
@slow
def test_manual_pages_and_completions_are_where_they_are_looked_for(contents: Contents) -> None:
    node, publisher = (set(contents[name]) for name in ("updated", "updated-publisher"))
    pages = {path for path in node if path.startswith("/usr/share/man/man")}
    assert {
        "/usr/share/man/man1/updatectl.1updated.gz", "/usr/share/man/man1/updated-ctl.1.gz",
        "/usr/share/man/man5/updated.toml.5.gz", "/usr/share/man/man8/updated.8.gz",
        "/usr/share/man/man8/updated-bootctl.8.gz", "/usr/share/man/man8/updated-health.8.gz",
    } == {path for path in pages if path.endswith(".gz")}
    assert contents["updated"]["/usr/share/man/man1/updated-ctl.1.gz"].linkname == "updatectl.1updated.gz"
    assert "/usr/share/man/man1/releasectl.1.gz" in publisher
    assert {
        "/usr/share/bash-completion/completions/updated-ctl", "/usr/share/zsh/vendor-completions/_updated-ctl",
        "/usr/share/fish/vendor_completions.d/updated-ctl.fish",
    } <= node
    assert {
        "/usr/share/bash-completion/completions/releasectl", "/usr/share/zsh/vendor-completions/_releasectl",
        "/usr/share/fish/vendor_completions.d/releasectl.fish",
    } <= publisher


@clean_system
@slow
def test_the_documents_are_there_as_they_are(contents: Contents, documents: Path) -> None:
    installed = {f"/{path.relative_to(documents)}" for path in documents.rglob("*") if path.is_file()}
    assert len(installed) > 30
    assert installed <= set(contents["updated"])


@clean_system
@slow
def test_the_programs_are_those_of_the_sources(packages: Path, tmp_path: Path) -> None:
    for name in ("updated", "updated-publisher"):
        subprocess.run(["dpkg-deb", "--extract", package(packages, name), tmp_path], check=True)
    home = tmp_path / "usr/lib/updated"
    [site] = home.glob("lib/python*/site-packages")
    for name, place in (("bootctl", home), ("health", home), ("updated", site)):
        assert modules(place, name) == modules(REPOSITORY, name)


def modules(place: Path, name: str) -> dict[Path, str]:
    return {path.relative_to(place): path.read_text() for path in (place / name).rglob("*.py")}


@clean_system
@slow
def test_all_is_of_root_and_nobody_else_may_write(contents: Contents) -> None:
    for member in [each for held in contents.values() for each in held.values()]:
        assert (member.uid, member.gid) == (0, 0), member.name
        assert member.issym() or member.mode & 0o7022 == 0, member.name


@clean_system
@slow
def test_nothing_in_a_package_is_younger_than_its_source(contents: Contents) -> None:
    with tarfile.open(BUILD / "sources.tar") as sources:
        newest = max(each.mtime for each in sources)
    assert max(each.mtime for held in contents.values() for each in held.values()) <= newest


# ------------------------------------------------------------------------------------------------------ a clean system


EVERYTHING = """\
import importlib, pkgutil, updated
for each in pkgutil.walk_packages(updated.__path__, "updated."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
print("all")
"""


class Root:
    """A Debian in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell command in it, with /proc and processes of its own."""
        inside = f'mount -t proc proc "{self.path}/proc" && exec chroot "{self.path}" /bin/sh -c "$1"'
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", inside, "sh", command],
            capture_output=True, text=True, check=False, timeout=120,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
        )

    def ok(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def there(self, path: str) -> bool:
        return os.path.lexists(self.path / path.lstrip("/"))

    def remove(self, name: str) -> str:
        return self.ok(f"dpkg --remove {name}")


@pytest.fixture(scope="module")
def debian(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar file of a small Debian with what the package depends on."""
    folder = tmp_path_factory.mktemp("debian")
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY) $(SITE) $(RELEASE) $(COMPONENT)"],
        capture_output=True, text=True, check=True,
    ).stdout
    found = (line.split() for line in targets.splitlines() if line.startswith("Packages "))
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    suites = (release, f"{release}-updates", f"{release}-security")
    main = [(site, suite) for _, site, suite, part in found if suite in suites and part == "main"]
    sources = sorted({f"deb {site} {suite} main" for site, suite in main})
    (folder / "sources.list").write_text("\n".join(sources) + "\n")
    depends = subprocess.run(
        ["dpkg-deb", "--field", package(packages, "updated"), "Depends"], capture_output=True, text=True, check=True
    ).stdout
    names = ",".join(sorted({each.split()[0] for each in depends.split(", ")}))
    made = subprocess.run(
        [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar",
            f"--include=usr-is-merged,{names}", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            '--aptopt=Apt::Install-Recommends "false"', "--dpkgopt=path-exclude=/usr/share/locale/*",
            release, folder / "debian.tar", folder / "sources.list",
        ],
        capture_output=True, text=True, check=False, timeout=400,
    )
    assert made.returncode == 0, made.stderr
    return folder / "debian.tar"


def unpack(debian: Path, folder: Path, packages: Path) -> Root:
    subprocess.run(["tar", "-C", folder, "--numeric-owner", "-xpf", debian], check=True)
    shutil.copytree(packages, folder / "packages")
    return Root(folder)


@pytest.fixture
def root(debian: Path, packages: Path, tmp_path: Path) -> Iterator[Root]:
    """A clean Debian, with the packages in /packages."""
    yield unpack(debian, tmp_path, packages)
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def node(debian: Path, packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A Debian where the package of nodes was installed, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("node")
    installed = unpack(debian, folder, packages)
    installed.ok(f"dpkg --install /packages/updated_{VERSION}-1_*.deb")
    yield installed
    shutil.rmtree(folder)


@clean_system
@slow
def test_the_programs_run_and_say_what_is_missing(node: Root) -> None:
    assert node.ok("updatectl --version; updated-ctl --version") == f"updatectl {VERSION}\n" * 2
    for program in ("updated", "updated-bootctl", "updated-health"):
        assert node.ok(f"cd /root && {program} --version") == f"{program} {VERSION}\n"
    status = node.run("updatectl status")
    assert status.returncode != 0
    assert "systemctl start updated" in status.stderr
    assert "Traceback" not in status.stderr


@clean_system
@slow
def test_each_module_finds_what_it_imports(node: Root) -> None:
    (node.path / "root/everything.py").write_text(EVERYTHING)
    assert node.ok("/usr/lib/updated/bin/python3 -I /root/everything.py") == "all\n"


@clean_system
@slow
def test_the_package_brings_the_check_that_fails_where_its_daemon_can_not_start(root: Root) -> None:
    root.ok(f"dpkg --install /packages/updated_{VERSION}-1_*.deb")
    file = root.path / "usr/lib/updated/health.d/required.d/updated-loads.toml"
    command = f"PYTHONPATH=/usr/lib/updated {shlex.join(tomllib.loads(file.read_text())['command'])}"
    assert root.ok(command) == "updated and its packages can be loaded\n"
    (root.path / "usr/lib/updated/lib").rename(root.path / "root/lib")
    assert root.run(command).returncode == 1


@clean_system
@slow
def test_health_needs_nothing_of_the_daemons_environment(root: Root) -> None:
    root.ok(f"dpkg --install /packages/updated_{VERSION}-1_*.deb")
    for part in ("bin", "lib", "pyvenv.cfg"):
        (root.path / "usr/lib/updated" / part).rename(root.path / "root" / part)
    # As in the units, and as a person types it, wherever they are.
    of_units = "PYTHONPATH=/usr/lib/updated /usr/bin/python3 -BPSs -m health"
    for health in (of_units, "PYTHONPATH=/nowhere updated-health"):
        assert root.ok(f"{health} --help").startswith("usage: updated-health")
        assert root.ok(f"{health} --version") == f"updated-health {VERSION}\n"
        assert "Traceback" not in root.run(f"{health}").stderr
    assert root.ok("updated-bootctl --help").startswith("usage: updated-bootctl")
    shown = root.run("updated-bootctl show")
    assert shown.returncode == 1
    assert shown.stderr.startswith("updated-bootctl: ")


@clean_system
@slow
def test_units_folders_and_the_user_are_there(node: Root) -> None:
    assert node.ok("systemd-analyze verify --man=no /usr/lib/systemd/system/updated*.service "
                   "/usr/lib/systemd/system/updated*.timer") == ""
    enabled = {path.name for path in (node.path / "etc/systemd/system").rglob("updated*")}
    shipped = {path.name for path in (PACKAGING / "systemd").glob("updated*") if "[Install]" in path.read_text()}
    assert enabled == shipped
    assert node.ok("stat -c '%U:%G %a' /var/lib/updated /var/lib/updated/fetch /etc/updated").splitlines() == [
        "root:root 755", "updated-fetch:updated-fetch 750", "root:root 755",
    ]
    # The units name the documents.
    assert node.there("/usr/share/doc/updated/operating.md")


@clean_system
@slow
def test_compiled_python_is_bound_to_no_time(node: Root) -> None:
    compiled = list((node.path / "usr/lib/updated").rglob("*.pyc"))
    sources = list((node.path / "usr/lib/updated").rglob("*.py"))
    assert len(compiled) == len(sources) > 100
    assert {int.from_bytes(each.read_bytes()[4:8], "little") for each in compiled} == {UNCHECKED_HASH}
    assert not [each for each in compiled if str(each.parent.parent) in each.read_bytes().decode("latin-1")]


# Files are the real one's business; what a manager would do is written down.
SYSTEMCTL = """\
#!/bin/sh
case "$*" in
    *--root=*) exec /usr/bin/systemctl.real "$@" ;;
    *is-enabled*) exec /usr/bin/systemctl.real --root=/ "$@" ;;
    *) echo "$*" >>/asked ;;
esac
"""


@clean_system
@slow
def test_an_upgrade_keeps_and_a_removal_stops_and_a_purge_leaves_nothing_but_the_user(root: Root) -> None:
    # A systemd that runs, as far as the scripts can see.
    (root.path / "run/systemd/system").mkdir(parents=True)
    systemctl = root.path / "usr/bin/systemctl"
    systemctl.rename(root.path / "usr/bin/systemctl.real")
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    asked = root.path / "asked"
    root.ok(f"dpkg --install /packages/*_{VERSION}-1_*.deb")
    assert f"releasectl {VERSION}" in root.ok("releasectl --version")
    started = asked.read_text()
    assert "start updated.service" in started
    # No boot is judged because a package was installed.
    assert not re.search(r"start.*(health|deadline|boot-count)", started)

    settings_file = root.path / "etc/updated/updated.toml"
    settings_file.write_text("# mine\n")
    state = root.path / "var/lib/updated/state.json"
    state.write_text("{}")
    newer = f"{VERSION}-2"
    root.ok(
        f"dpkg-deb --raw-extract /packages/updated_{VERSION}-1_*.deb /new && "
        f"sed -i 's/^Version: .*/Version: {newer}/' /new/DEBIAN/control && "
        "dpkg-deb --root-owner-group -Znone --build /new /new.deb && dpkg --remove updated-publisher"
    )
    asked.unlink()
    assert "is installed, and does nothing" not in root.ok("dpkg --install /new.deb")
    assert re.search(r"^(--\S+ )*restart updated\.service$", asked.read_text(), re.MULTILINE)
    assert not re.search(r"start.*(health|deadline|boot-count)", asked.read_text())
    assert settings_file.read_text() == "# mine\n"
    assert state.read_text() == "{}"
    assert root.ok("updatectl --version") == f"updatectl {VERSION}\n"

    asked.unlink()
    root.remove("updated")
    assert "stop updated.service" in asked.read_text()
    assert not root.there("/usr/bin/updatectl")
    assert not root.there("/usr/lib/updated")
    assert settings_file.exists()
    assert state.exists()

    root.ok("dpkg --purge updated")
    left = root.ok("find / -xdev ! -path '/proc/*' ! -path '/packages*' ! -path '/new*' -name '*updated*'")
    assert left == ""
    assert "updated-fetch" in root.ok("id updated-fetch")


OTHER = """\
Package: other
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: owns a name that is ours elsewhere
"""


THEIRS = (
    "usr/bin/updatectl", "usr/share/man/man1/updatectl.1", "usr/share/bash-completion/completions/updatectl",
    "usr/share/zsh/vendor-completions/_updatectl", "usr/share/fish/vendor_completions.d/updatectl.fish",
)  # fmt: skip


def no_file_is_of_both(root: Root) -> None:
    """Nor did either package lose one to the other."""
    ours = set(root.ok("dpkg --listfiles updated").splitlines())
    theirs = [path for path in root.ok("dpkg --listfiles other").splitlines() if not (root.path / path[1:]).is_dir()]
    assert sorted(theirs) == sorted(f"/{each}" for each in THEIRS)
    assert not ours & set(theirs)
    assert root.ok("dpkg --verify updated other") == ""


@clean_system
@slow
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_a_program_of_systemd_keeps_the_name_and_ours_has_another(root: Root, first: str) -> None:
    other = root.path / "other"
    (other / "DEBIAN").mkdir(parents=True)
    (other / "DEBIAN/control").write_text(OTHER)
    for each in THEIRS:
        (other / each).parent.mkdir(parents=True, exist_ok=True)
        (other / each).write_text("#!/bin/sh\necho theirs\n")
    (other / "usr/bin/updatectl").chmod(0o755)
    root.ok("dpkg-deb --root-owner-group -Znone --build /other /other.deb")
    ours = f"dpkg --install /packages/updated_{VERSION}-1_*.deb"
    for install in (ours, "dpkg --install /other.deb")[:: 1 if first == "ours" else -1]:
        root.ok(install)

    def taken() -> dict[str, str]:
        return {each: (root.path / each).read_text() for each in THEIRS if root.there(each)}

    kept = dict.fromkeys(THEIRS, "#!/bin/sh\necho theirs\n")
    assert root.ok("updatectl --version") == "theirs\n"
    assert root.ok("updated-ctl --version") == f"updatectl {VERSION}\n"
    assert taken() == kept
    no_file_is_of_both(root)
    # An upgrade of ours doesn't take it either, and it comes back when they go.
    root.ok(ours)
    assert root.ok("updatectl --version") == "theirs\n"
    assert taken() == kept
    root.remove("other")
    assert root.ok("updatectl --version") == f"updatectl {VERSION}\n"
    completions = "/usr/share/bash-completion/completions"
    assert root.ok(f"readlink {completions}/updatectl") == "updated-ctl\n"
    assert root.there(f"{completions}/updated-ctl")
    root.ok("dpkg --install /other.deb")
    root.ok("dpkg --purge updated")
    assert root.ok("updatectl") == "theirs\n"
    assert taken() == kept
    assert not root.there("/usr/bin/updated-ctl")
