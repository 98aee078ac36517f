"""Machines for the scenarios: which tests run, what they get, and that no machine is left behind."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.images import BUILD, FACTORY, LOADERS, Images, Loader, Repository, find_images
from tests.e2e.node import Node
from tests.e2e.story import Story
from tests.fakes import nginx
from tests.qemu.machine import children

# The timeout of pytest stands behind those of the waits, which tell more.
_LIMIT = 1800


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ci(*loaders): also runs without --e2e=all, for these loaders or for each")
    config.addinivalue_line("markers", "loaders(*loaders): runs for these loaders alone")
    config.addinivalue_line("markers", "powercut: of make e2e-powercut")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loader" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("loaders")
        metafunc.parametrize("loader", only.args if only else LOADERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not _wanted(item, config.getoption("--e2e"))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    for item in items:
        if _boots(item) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_LIMIT))


def _boots(item: pytest.Item) -> bool:
    here = Path(__file__).parent in item.path.parents
    return here and isinstance(item, pytest.Function) and "images" in item.fixturenames


def _wanted(item: pytest.Item, chosen: str) -> bool:
    if not _boots(item) or chosen == "all":
        return True
    marker = item.get_closest_marker("ci")
    if chosen == "no" or marker is None:
        return False
    assert isinstance(item, pytest.Function)
    loader = item.callspec.params.get("loader") if hasattr(item, "callspec") else None
    return not marker.args or loader in marker.args


@pytest.fixture(autouse=True)
def no_machine_is_left() -> Iterator[None]:
    """Fails when QEMU outlives a test."""
    yield
    assert children(os.getpid()) == set()


@pytest.fixture(scope="session")
def images() -> Images:
    """What is built once and kept."""
    return find_images()


@pytest.fixture
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    """The log of this scenario: build/e2e/logs/SCENARIO-LOADER.log."""
    name = re.sub(r"[^a-zA-Z0-9-]+", "-", request.node.name.removeprefix("test_")).strip("-")
    story = Story(BUILD / "logs" / f"{name}.log")
    yield story
    story.close()


@pytest.fixture
def repository(images: Images, tmp_path: Path) -> Repository:
    """A repository with 1.0.0, which the factory's machines run, in channel stable."""
    repository = Repository(images, tmp_path)
    repository.release(FACTORY)
    return repository


@pytest.fixture
def make_node(
    images: Images, repository: Repository, story: Story, tmp_path: Path
) -> Iterator[Callable[[Loader], Node]]:
    """Makes a machine from the factory, off; its disk is removed at the end."""
    with ExitStack() as stack:

        def make(loader: Loader) -> Node:
            requests = tmp_path / "requests"
            url = stack.enter_context(nginx.serve(repository.folder, more=f"access_log {requests} sent;"))
            folder = tmp_path / f"machine-{loader}"
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            image = images.machine(loader, images.release(FACTORY))
            node = Node.from_image(image, folder, story, port=int(url.rstrip("/").rpartition(":")[2]))
            node.loader, node.requests = loader, requests
            return stack.enter_context(node)

        yield make


@pytest.fixture
def node(make_node: Callable[[Loader], Node], loader: Loader) -> Node:
    """A machine from the factory that has booted 1.0.0 from slot a, and whose daemon knows the repository."""
    node = make_node(loader)
    node.start()
    assert node.wait_boot() == "a"
    node.configure()
    return node
