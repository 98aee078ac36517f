"""The layered configuration."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootctl import settings
from bootctl.settings import BootSettings, ConfigError, Layered, Origin, boot_settings, load
from bootctl.toml_lines import key_lines

VENDOR = "usr/lib/updated/updated.toml.d"
MAIN = "etc/updated/updated.toml"
LOCAL = "etc/updated/updated.toml.d"
RUNTIME = "run/updated/updated.toml.d"


def put(root: Path, name: str, text: str | bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def loaded(root: Path, text: str) -> Layered:
    put(root, MAIN, text)
    return load(str(root))


def refusal(root: Path, text: str | bytes, name: str = MAIN) -> str:
    put(root, name, text)
    with pytest.raises(ConfigError) as caught:
        boot_settings(load(str(root)), str(root))
    return str(caught.value).replace(f"{root}/", "")


def test_without_any_file_there_are_only_defaults(tmp_path: Path) -> None:
    layered = load(str(tmp_path))
    assert (layered.values, layered.origins) == ({}, {})
    assert boot_settings(layered, "/") == BootSettings()
    assert boot_settings(layered, str(tmp_path)).grubenv == f"{tmp_path}/boot/grub/grubenv"


def test_layers_apply_from_vendor_to_runtime(tmp_path: Path) -> None:
    put(tmp_path, f"{VENDOR}/90-vendor.toml", "[t]\na = 1\nb = 1\nc = 1\nd = 1\n")
    put(tmp_path, MAIN, "[t]\nb = 2\nc = 2\nd = 2\n")
    put(tmp_path, f"{LOCAL}/50-site.toml", "[t]\nc = 3\nd = 3\n")
    put(tmp_path, f"{RUNTIME}/60-now.toml", "[t]\nd = 4\n")
    layered = load(str(tmp_path))
    assert layered.values == {"t": {"a": 1, "b": 2, "c": 3, "d": 4}}
    assert {key: str(layered.origin(f"t.{key}")).replace(f"{tmp_path}/", "") for key in "abcd"} == {
        "a": f"{VENDOR}/90-vendor.toml:2",
        "b": f"{MAIN}:2",
        "c": f"{LOCAL}/50-site.toml:2",
        "d": f"{RUNTIME}/60-now.toml:2",
    }


def test_drop_ins_apply_in_the_order_of_their_names_across_directories(tmp_path: Path) -> None:
    put(tmp_path, f"{LOCAL}/90-site.toml", "x = 'site'\n")
    put(tmp_path, f"{RUNTIME}/10-now.toml", "x = 'now'\n")
    assert load(str(tmp_path)).values == {"x": "site"}


@pytest.mark.parametrize(("lower", "higher"), [(VENDOR, LOCAL), (VENDOR, RUNTIME), (LOCAL, RUNTIME)])
@pytest.mark.parametrize("text", ["b = 2\n", ""])
def test_a_drop_in_replaces_the_one_of_the_same_name_below(tmp_path: Path, lower: str, higher: str, text: str) -> None:
    put(tmp_path, f"{lower}/10-x.toml", "a = 1\n")
    put(tmp_path, f"{higher}/10-x.toml", text)
    assert load(str(tmp_path)).values == ({"b": 2} if text else {})


def test_tables_merge_and_other_values_are_replaced_as_a_whole(tmp_path: Path) -> None:
    put(tmp_path, MAIN, "list = [1, 2]\n[t]\nx = 1\n[t.u]\ny = 1\n[gone]\nz = 1\n")
    put(tmp_path, f"{LOCAL}/1.toml", "list = [3]\ngone = true\n[t.u]\nw = 2\n")
    layered = load(str(tmp_path))
    assert layered.values == {"list": [3], "gone": True, "t": {"x": 1, "u": {"y": 1, "w": 2}}}
    assert layered.origin("list") == Origin(f"{tmp_path}/{LOCAL}/1.toml", 1)
    assert layered.origin("gone.z") == Origin(f"{tmp_path}/{LOCAL}/1.toml", 2)
    assert layered.origin("t.u.y") == Origin(f"{tmp_path}/{MAIN}", 5)


DOCUMENT = '''\
# top = 0
top = """
[no]
table = 1
"""

"quoted key" = 1
dotted . "inner.name" = 2
array = [
  "]", # [no]
  { a = 1 },
]
last = \'\'\'x\'\'\'\'

[disk]   # comment
image = "#/x"
[ a . b ]
c = 1

[[checks]]
name = "one"
[checks.more]
k = 1
[[checks]]
name = 'two'
inline = { x = 1, y = [
  2 ] }
end = 1'''


def test_every_key_is_found_on_its_line(tmp_path: Path) -> None:
    origins = loaded(tmp_path, DOCUMENT).origins
    assert {key: origin.line for key, origin in origins.items()} == {
        "top": 2,
        "quoted key": 7,
        "dotted": 8,
        "dotted.inner.name": 8,
        "array": 9,
        "last": 13,
        "disk": 15,
        "disk.image": 16,
        "a.b": 17,
        "a.b.c": 18,
        "checks": 24,
        "checks[0]": 20,
        "checks[0].name": 21,
        "checks[0].more": 22,
        "checks[0].more.k": 23,
        "checks[1]": 24,
        "checks[1].name": 25,
        "checks[1].inline": 26,
        "checks[1].end": 28,
    }


def test_a_key_without_a_line_of_its_own_has_that_of_what_is_around_it(tmp_path: Path) -> None:
    layered = loaded(tmp_path, DOCUMENT)
    lines = {key: origin.line for key in ("checks[1].inline.y", "checks[1].nothing", "a.b.c.d", "a")
             if (origin := layered.origin(key))}  # fmt: skip
    assert lines == {"checks[1].inline.y": 26, "checks[1].nothing": 24, "a.b.c.d": 18}
    assert layered.origin("nowhere.x") is None
    assert str(layered.error("nowhere.x", "it is missing", "Set it.")) == (
        "/etc/updated/updated.toml: nowhere.x: it is missing. Set it."
    )


scalars = st.one_of(st.integers(-5, 5), st.booleans(), st.text(st.sampled_from("a\"'\\[]{}#=\n.é"), max_size=6))
keys = st.text(st.sampled_from("ab.\"'#[ ="), min_size=1, max_size=3)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3), max_leaves=5)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def spelled(value: Any, wide: bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        body = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{body}"""' if wide else quoted(value)
    if isinstance(value, list):
        separator = ", # ]\n" if wide else ","
        return "[" + "".join(f"{spelled(item, wide)}{separator}" for item in value) + "]"
    return str(value)


@given(st.dictionaries(keys, st.tuples(st.dictionaries(keys, values, max_size=3), st.booleans()), max_size=4))
def test_the_line_of_any_key_of_any_document_is_right(tables: dict[str, tuple[dict[str, Any], bool]]) -> None:
    text = ""
    expected: dict[str, int] = {}
    for table, (entries, wide) in tables.items():
        expected[table] = text.count("\n") + 1
        text += f"[{quoted(table)}]\n"
        for key, value in entries.items():
            expected.setdefault(f"{table}.{key}", text.count("\n") + 1)
            text += f"{quoted(key)} = {spelled(value, wide)}\n"
    assert tomllib.loads(text) == {table: entries for table, (entries, _) in tables.items()}
    found: dict[str, int] = {}
    for key, line in key_lines(text):
        found.setdefault(key, line)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = = 2\n", f"{MAIN}:2: it is no TOML: Invalid value. Correct this line."),
        ("a = 1\na = 2\n", f"{MAIN}:2: it is no TOML: this key was set already. Correct this line."),
        ("a = 1\nb = [1,\n", f"{MAIN}:3: it is no TOML: Invalid value. Correct this line."),
        (b"a = 1\n\nb = '\xff'\n", f"{MAIN}:3: this line is not UTF-8 text. Save the file as UTF-8."),
        ("a = " + "[" * 5000, f"{MAIN}: its values are nested too deeply. Nest them less."),
    ],
)
def test_a_file_that_is_no_toml_is_an_error_with_its_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert refusal(tmp_path, text) == message


@pytest.mark.parametrize("folder", [VENDOR, LOCAL, RUNTIME])
@pytest.mark.parametrize("name", ["10-x.yaml", "10-x.toml~", "README", ".10-x.toml.swp"])
def test_a_file_of_another_ending_among_drop_ins_is_an_error(tmp_path: Path, folder: str, name: str) -> None:
    assert refusal(tmp_path, "", f"{folder}/{name}") == (
        f"{folder}/{name}: it does not end in .toml, so that its settings would be ignored. Rename or remove it."
    )


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / MAIN).mkdir(parents=True)
    with pytest.raises(ConfigError, match="it can't be read \\(Is a directory\\)"):
        load(str(tmp_path))
    (tmp_path / MAIN).rmdir()
    put(tmp_path, LOCAL, "")
    with pytest.raises(ConfigError, match="it can't be read \\(Not a directory\\)"):
        load(str(tmp_path))


def test_all_settings_of_the_boot_reference(tmp_path: Path) -> None:
    text = """
[disk]
image = "/disk.img"
components = ["rootfs", "verity"]
files = { kernel = "/efi//EFI/updated/{slot}.efi", dtb = "/boot/{slot}/dtb" }
[boot]
backend = "grub"
grubenv = "/efi/env"
esp = "/esp"
fw_env_config = "/etc/fw"
autoboot = "/boot/autoboot.txt"
tryboot_partitions = { a = 5, b = 6 }
tries = 5
count_confirmed = true
[other]
x = 1
"""
    root = str(tmp_path)
    assert boot_settings(loaded(tmp_path, text), root) == BootSettings(
        root=root, backend="grub", image=f"{root}/disk.img", grubenv=f"{root}/efi/env", esp=f"{root}/esp",
        efivars=f"{root}/sys/firmware/efi/efivars", efi_backup=f"{root}/var/lib/updated/boot/efi",
        fw_env_config=f"{root}/etc/fw", autoboot=f"{root}/boot/autoboot.txt",
        tryboot_partitions=(("a", 5), ("b", 6)), tries=5, count_confirmed=True,
        components=("rootfs", "verity"),
        files=(("dtb", f"{root}/boot/{{slot}}/dtb"), ("kernel", f"{root}/efi/EFI/updated/{{slot}}.efi")),
    )  # fmt: skip
    assert boot_settings(loaded(tmp_path, '[disk]\ndevice = "/dev/vda"\n')).device == "/dev/vda"


def test_without_configuration_the_defaults_lie_below_the_root() -> None:
    assert boot_settings(settings.Layered({}, {})) == BootSettings()
    assert boot_settings(settings.Layered({}, {}), "/r").grubenv == "/r/boot/grub/grubenv"


def test_the_system_partition_is_where_a_loader_is(tmp_path: Path) -> None:
    assert boot_settings(settings.Layered({}, {}), str(tmp_path)).esp == f"{tmp_path}/efi"
    (tmp_path / "boot/efi/loader").mkdir(parents=True)
    assert boot_settings(settings.Layered({}, {}), str(tmp_path)).esp == f"{tmp_path}/boot/efi"


BACKENDS = "auto, gptprio, uboot, tryboot, systemd_boot, grub, efi"
PARTITIONS = " does not give two slots a partition each. Give a table such as { a = 2, b = 3 }."
OUT = " Take it out of components, or out of files."
FILES = '. Give one such as { kernel = "/efi/EFI/updated/{slot}.efi" }.'
PATH = ' is no absolute path with one {slot} in it. Give a path such as "/efi/EFI/updated/{slot}.efi".'
KEYS = "backend, grubenv, esp, fw_env_config, autoboot, tryboot_partitions, tries, count_confirmed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[boot]\n\ntrise = 3\n", ":3: boot.trise: there is no such key. Use one of: " + KEYS + "."),
        ("[disk]\npath = 1\n", ":2: disk.path: there is no such key. Use one of: device, image, components, files."),
        ("[disk]\nfiles = ['/x']\n", ":2: disk.files: [\"/x\"] is no table" + FILES),
        ("[disk.files]\nkernel = 7\n", ":2: disk.files.kernel: 7" + PATH),
        ("[disk.files]\nkernel = ''\n", ":2: disk.files.kernel: \"\"" + PATH),
        ("[disk.files]\nkernel = 'efi/{slot}'\n", ":2: disk.files.kernel: \"efi/{slot}\"" + PATH),
        ("[disk.files]\nkernel = '/efi/x'\n", ":2: disk.files.kernel: \"/efi/x\"" + PATH),
        ("[disk.files]\nkernel = '/{slot}/{slot}'\n", ":2: disk.files.kernel: \"/{slot}/{slot}\"" + PATH),
        ("[disk.files]\nkernel = '/{slot}/../x'\n", ":2: disk.files.kernel: \"/{slot}/../x\"" + PATH),
        ("[disk.files]\nKernel = '/{slot}'\n",
         ":2: disk.files.Kernel: \"Kernel\" is no component. Name it such as \"kernel\"."),
        ("[disk]\n\nfiles = { rootfs = '/{slot}' }\n",
         ":3: disk.files.rootfs: it is one of the components that are partitions." + OUT),
        ("[disk.files]\nkernel = '/x/{slot}'\ninitrd = '/x//./{slot}'\n",
         ":3: disk.files.initrd: \"/x//./{slot}\" is the path of another component too. Give each a path of its own."),
        ("boot = 1\n", ":1: boot: it is no table. Write it as a table: [boot]."),
        ('[boot]\nbackend = "lilo"\n', ":2: boot.backend: \"lilo\" is no backend. Use one of: " + BACKENDS + "."),
        ("[boot]\nbackend = []\n", ":2: boot.backend: [] is no backend. Use one of: " + BACKENDS + "."),
        ("[boot]\ntries = 0\n", ":2: boot.tries: 0 is no number of tries. Give a whole number from 1 to 15."),
        ("[boot]\ntries = true\n", ":2: boot.tries: true is no number of tries. Give a whole number from 1 to 15."),
        ("[boot]\ntries = '3'\n", ":2: boot.tries: \"3\" is no number of tries. Give a whole number from 1 to 15."),
        ("[boot]\ncount_confirmed = 1\n", ":2: boot.count_confirmed: 1 is neither true nor false. Give true or false."),
        ("[boot]\ntryboot_partitions = { a = 2, b = 2 }\n",
         ":2: boot.tryboot_partitions: { a = 2, b = 2 }" + PARTITIONS),
        ("[boot]\ntryboot_partitions = { a = 2, b = '3' }\n",
         ":2: boot.tryboot_partitions: { a = 2, b = \"3\" }" + PARTITIONS),
        ("[disk]\nimage = 'x'\n", ':2: disk.image: "x" is no absolute path. Give a path such as "/dev/vda".'),
        ("[boot]\ngrubenv = 7\n", ":2: boot.grubenv: 7 is no absolute path. Give a path such as \"/dev/vda\"."),
        ("[disk]\ndevice = '../x'\n", ':2: disk.device: "../x" is no absolute path. Give a path such as "/dev/vda".'),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_an_error_with_file_line_key_cause_and_mend(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text) == f"{MAIN}{message}"


def test_device_and_image_exclude_each_other_and_both_places_are_named(tmp_path: Path) -> None:
    put(tmp_path, f"{VENDOR}/1.toml", '[disk]\ndevice = "/dev/vda"\n')
    message = refusal(tmp_path, '[disk]\nimage = "/disk.img"\n')
    assert message.startswith(f"{MAIN}:2: disk.image: device is set too ({VENDOR}/1.toml:2)")


@pytest.mark.parametrize("path", ["/../../etc/passwd", "//x/./y/..", "/"])
def test_no_path_leads_out_of_the_root(path: str) -> None:
    assert os.path.commonpath([settings.below("/srv/root", path), "/srv/root"]) == "/srv/root"
    assert settings.below("/", path) == {"/": "/", "//x/./y/..": "/x"}.get(path, "/etc/passwd")
