"""The model of systemd-boot keeps to the specification, and agrees with systemd's own bootctl about the order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.systemd_boot import (
    Loader,
    bless,
    bootctl_default,
    bootctl_list,
    get_variable,
    set_variable,
    uki,
    version_order,
)


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    for folder in ("esp/loader/entries", "esp/EFI/Linux", "efivars"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "esp/linux").touch()
    return Loader(tmp_path / "esp", tmp_path / "efivars")


def entry(loader: Loader, name: str, *lines: str) -> None:
    (loader.esp / "loader/entries" / name).write_text("\n".join(["linux /linux", *lines, ""]))


def names(loader: Loader) -> list[str]:
    return sorted(path.name for path in (loader.esp / "loader/entries").iterdir())


def of_version(loader: Loader, version: int) -> Loader:
    return Loader(loader.esp, loader.efivars, version)


def test_the_older_document_s_series_of_names(loader: Loader) -> None:
    entry(loader, "foobar+3.conf")
    seen = []
    for _ in range(4):
        loader.boot()
        seen += names(loader)
    assert seen == ["foobar+2-1.conf", "foobar+1-2.conf", "foobar+0-3.conf", "foobar+0-4.conf"]


def test_a_panicking_entry_is_left_after_its_tries(loader: Loader) -> None:
    """Seen with systemd 252: three boots of B, then A."""
    entry(loader, "updated-a.conf", "sort-key x", "version 1")
    entry(loader, "updated-b+3-0.conf", "sort-key x", "version 2")
    assert [loader.boots() for _ in range(5)] == ["b", "b", "b", "a", "a"]
    assert names(loader) == ["updated-a.conf", "updated-b+0-3.conf"]


def test_the_running_system_learns_the_path_as_it_is_now(loader: Loader) -> None:
    entry(loader, "updated-b+3-0.conf")
    loader.boot()
    assert get_variable(loader.efivars, "LoaderBootCountPath") == "\\loader\\entries\\updated-b+2-1.conf"
    assert get_variable(loader.efivars, "LoaderEntrySelected") == "updated-b+3-0.conf"
    of_version(loader, 259).boot()
    assert get_variable(loader.efivars, "LoaderEntrySelected") == "updated-b.conf"


def test_a_default_overrides_the_counters(loader: Loader) -> None:
    """Seen with systemd 252: +1-1, +0-2, +0-3, +0-4, ..."""
    entry(loader, "updated-a.conf")
    entry(loader, "updated-b+2-0.conf")
    set_variable(loader.efivars, "LoaderEntryDefault", "updated-b*")
    assert [loader.boots() for _ in range(5)] == ["b"] * 5
    assert names(loader)[1] == "updated-b+0-5.conf"


@pytest.mark.parametrize(("version", "whole", "short"), [(247, "b", "a"), (252, "b", "a"), (259, "a", "b")])
def test_the_id_has_the_counter_up_to_258(loader: Loader, version: int, whole: str, short: str) -> None:
    """Seen with systemd 252: the one-shot "slot-b.conf" does not fit slot-b+2-0.conf."""
    entry(loader, "updated-a.conf", "sort-key x", "version 2")
    set_variable(loader.efivars, "LoaderEntryDefault", "updated-a.conf")
    for text, slot in (("updated-b+2-0.conf", whole), ("updated-b.conf", short)):
        for old in (loader.esp / "loader/entries").glob("updated-b*"):
            old.unlink()
        entry(loader, "updated-b+2-0.conf", "sort-key x", "version 1")
        set_variable(loader.efivars, "LoaderEntryOneShot", text)
        assert of_version(loader, version).boots() == slot


def test_a_one_shot_is_deleted_as_it_is_read(loader: Loader) -> None:
    entry(loader, "updated-a.conf")
    entry(loader, "updated-b.conf")
    set_variable(loader.efivars, "LoaderEntryOneShot", "updated-a.conf")
    assert [loader.boots(), loader.boots()] == ["a", "b"]
    set_variable(loader.efivars, "LoaderEntryOneShot", "nothing")
    assert loader.boots() == "b"
    assert get_variable(loader.efivars, "LoaderEntryOneShot") is None


def test_patterns_need_a_loader_of_250(loader: Loader) -> None:
    entry(loader, "updated-a.conf")
    entry(loader, "updated-b.conf")
    for version, slot in ((247, "b"), (252, "a"), (259, "a")):
        set_variable(loader.efivars, "LoaderEntryOneShot", "updated-a[+.]*")
        assert of_version(loader, version).boots() == slot


def test_a_preferred_entry_is_passed_over_when_it_is_bad(loader: Loader) -> None:
    entry(loader, "updated-a.conf", "sort-key x", "version 2")
    entry(loader, "updated-b+1-0.conf", "sort-key x", "version 1")
    set_variable(loader.efivars, "LoaderEntryPreferred", "updated-b.conf")
    newest = of_version(loader, 260)
    assert [newest.boots() for _ in range(3)] == ["b", "a", "a"]


def test_the_last_booted_entry_can_be_the_default(loader: Loader) -> None:
    entry(loader, "updated-a.conf")
    entry(loader, "updated-b.conf")
    set_variable(loader.efivars, "LoaderEntryDefault", "@saved")
    assert loader.boots() == "b"
    set_variable(loader.efivars, "LoaderEntryLastBooted", "updated-a.conf")
    assert loader.boots() == "a"


def test_a_loader_that_does_not_count_leaves_the_names(loader: Loader) -> None:
    entry(loader, "updated-a.conf")
    entry(loader, "updated-b+1-0.conf")
    old = of_version(loader, 239)
    assert [old.boots(), old.boots()] == ["b", "b"]
    assert names(loader) == ["updated-a.conf", "updated-b+1-0.conf"]


def test_an_efi_program_is_not_counted_from_257_on(loader: Loader) -> None:
    (loader.esp / "loader/entries/updated-b+2-0.conf").write_text("efi /linux\n")
    of_version(loader, 257).boot()
    assert names(loader) == ["updated-b+2-0.conf"]
    loader.boot()
    assert names(loader) == ["updated-b+1-1.conf"]


def test_a_name_that_is_taken_stops_the_counting(loader: Loader) -> None:
    entry(loader, "updated-b+2-0.conf", "sort-key x", "version 2")
    entry(loader, "Updated-b+1-1.conf", "sort-key x", "version 1")
    assert loader.boot() == "updated-b+2-0.conf"
    assert names(loader) == ["Updated-b+1-1.conf", "updated-b+2-0.conf"]
    assert get_variable(loader.efivars, "LoaderBootCountPath") is None


def test_entries_that_can_t_start_are_not_seen(loader: Loader) -> None:
    for name, text in {
        "a.conf": "linux /missing\n", "b.conf": "", "c.conf": "title x\n", ".d.conf": "linux /linux\n",
        "auto-e.conf": "linux /linux\n", "f.txt": "linux /linux\n", "g.conf": "#linux /linux\n",
    }.items():  # fmt: skip
        (loader.esp / "loader/entries" / name).write_text(text)
    (loader.esp / "EFI/Linux/h.efi").write_bytes(b"MZ")
    (loader.esp / "EFI/Linux/i.efi").write_bytes(uki("VERSION_ID=1\n"))
    assert loader.boot() is None


def test_the_order_is_that_of_the_specification(loader: Loader) -> None:
    entry(loader, "a+0-3.conf", "sort-key a", "version 9")
    entry(loader, "b.conf", "sort-key b", "machine-id 2", "version 9")
    entry(loader, "c.conf", "sort-key b", "machine-id 1", "version 0000000010")
    entry(loader, "d.conf", "sort-key b", "machine-id 1", "version 0000000009")
    entry(loader, "e.conf", "version 99")
    entry(loader, "f.conf")
    (loader.esp / "EFI/Linux/g.efi").write_bytes(uki("ID=b\nIMAGE_ID=aa\nVERSION_ID=3\n"))
    assert loader.order() == ["g.efi", "c.conf", "d.conf", "b.conf", "f.conf", "e.conf", "a+0-3.conf"]


def test_versions_are_in_the_order_that_systemd_documents() -> None:
    ascending = [
        "122.1", "123~rc1-1", "123", "123-a", "123-a.1", "123-1", "123-1.1", "123^post1", "123.a-1", "123.1-1",
        "123a-1", "124-1",
    ]  # fmt: skip
    for index, older in enumerate(ascending):
        assert version_order(older, older) == 0
        for newer in ascending[index + 1 :]:
            assert (version_order(older, newer), version_order(newer, older)) == (-1, 1)


keys = st.sampled_from([None, "a", "b"])
versions = st.sampled_from([None, "0000000001", "0000000002", "1", "10", "1.2", "1~rc1", "1-2"])
counters = st.sampled_from(["", "+3", "+2-1", "+0-3", "+10-00"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(keys, keys, versions, counters), min_size=2, max_size=5))
def test_bootctl_sorts_as_the_model_does(
    loader: Loader, entries: list[tuple[str | None, str | None, str | None, str]]
) -> None:
    for old in (loader.esp / "loader/entries").iterdir():
        old.unlink()
    for number, (sort_key, machine_id, version, counter) in enumerate(entries):
        lines = [
            f"{key} {value}"
            for key, value in (
                ("sort-key", sort_key),
                ("machine-id", machine_id and machine_id * 32),
                ("version", version),
            )
            if value
        ]
        entry(loader, f"e{number}{counter}.conf", *lines)
    listed = [Path(found["path"]).name for found in bootctl_list(loader.esp, loader.efivars)]
    assert listed == of_version(loader, 259).order()


@pytest.mark.parametrize(
    ("name", "value"),
    [("LoaderEntryOneShot", "updated-a[+.]*"), ("LoaderEntryDefault", "updated-a.conf"), ("LoaderEntryDefault", "x"),
     ("LoaderEntryOneShot", "updated-b.conf"), ("LoaderEntryDefault", "updated-b*")],
)  # fmt: skip
def test_bootctl_chooses_as_the_model_does(loader: Loader, name: str, value: str) -> None:
    entry(loader, "updated-a.conf", "sort-key x", "version 1")
    entry(loader, "updated-b+3-0.conf", "sort-key x", "version 2")
    entry(loader, "updated-c+0-3.conf", "sort-key x", "version 3")
    set_variable(loader.efivars, name, value)
    chosen = bootctl_default(loader.esp, loader.efivars)
    assert chosen == f"updated-{of_version(loader, 259).boots()}.conf"


@pytest.mark.parametrize(("verb", "name"), [("good", "updated-b.conf"), ("bad", "updated-b+0-1.conf")])
def test_systemd_bless_boot_finds_the_entry_that_the_model_started(loader: Loader, verb: str, name: str) -> None:
    entry(loader, "updated-b+3-0.conf")
    loader.boot()
    assert bless(loader.esp, loader.efivars, "status") == "indeterminate"
    bless(loader.esp, loader.efivars, verb)
    assert names(loader) == [name]
    assert bless(loader.esp, loader.efivars, "status") == verb
