"""Ctrl-C while a program still loads: an exit status and no traceback, at whichever import it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.packaging.shipped import REPOSITORY

# Sends the signal when the module is about to be imported, then runs the program as `python -m` does.
INTERRUPTED = """
import os, runpy, signal, sys
program, wanted, *arguments = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where whoever started the tests ignores it
class Person:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == wanted:
            sys.meta_path.remove(Person)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Person)
sys.argv[1:] = arguments
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


HEALTH = "health: interrupted; no slot was confirmed or given up. Run it again.\n"
RELEASECTL = (
    "releasectl: interrupted; nodes see the old state or the new one. Run the same command again: it goes on.\n"
)
CASES = {
    "health": (
        "health.verbs", "dataclasses", "bootctl.settings", "health.usage", "argparse", "health.machine", "bootctl.gpt",
    ),
    "updated.cli": ("argparse", "json", "updated.cli.exits", "updated.core.errors", "updated.cli.statusfile"),
    "updated.publish": ("argparse", "numpy", "updated.publish.verbs", "updated.publish.verbs.keys"),
}  # fmt: skip
TOLD = {"health": HEALTH, "updated.cli": "", "updated.publish": RELEASECTL}
ARGUMENTS = {"health": ["--root", "/"], "updated.cli": ["status"], "updated.publish": ["--help"]}


@pytest.mark.parametrize(
    ("program", "module"), [(program, module) for program, modules in CASES.items() for module in modules]
)
def test_an_interruption_at_any_import_ends_without_a_traceback(program: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, program, module, *ARGUMENTS[program]], cwd=REPOSITORY, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", TOLD[program])
