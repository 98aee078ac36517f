import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from health.rootdir import below


def test_an_absolute_link_in_an_image_means_a_file_of_that_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("/usr/lib/os-release")
    assert below(str(tmp_path), "/etc/os-release") == str(tmp_path / "usr/lib/os-release")


def test_a_relative_link_is_followed_from_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("../usr/lib/os-release")
    assert below(str(tmp_path), "/etc/os-release") == str(tmp_path / "usr/lib/os-release")


def test_a_link_that_points_out_of_the_root_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("../../../../../etc")
    assert below(str(tmp_path), "/up/shadow") == str(tmp_path / "etc/shadow")


def test_links_in_a_circle_are_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError) as raised:
        below(str(tmp_path), "/one")
    assert raised.value.errno == errno.ELOOP


def test_the_root_directory_itself_is_left_to_the_kernel() -> None:
    assert below("/", "/proc/self/mountinfo") == "/proc/self/mountinfo"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.sampled_from(["..", ".", "", "a", "b", "l"]), max_size=8),
    target=st.lists(st.sampled_from(["..", "a", "b", ""]), min_size=1, max_size=6),
)
def test_no_path_leads_out_of_the_root(tmp_path: Path, parts: list[str], target: list[str]) -> None:
    root = tmp_path / "root"
    root.mkdir(exist_ok=True)
    (root / "l").unlink(missing_ok=True)
    (root / "l").symlink_to("/".join(target) or ".")
    path = below(str(root), "/" + "/".join(parts))
    assert os.path.commonpath([str(root), os.path.normpath(path)]) == str(root)
