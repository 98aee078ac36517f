"""`--version` of the programs."""

import argparse
from collections.abc import Sequence
from typing import Any


class ShowVersion(argparse.Action):
    """Prints the name of the program and the version of the installed package, and ends; `unknown` in a plain copy."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help="print the version, and end")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        # Loaded here, since it takes longer than the rest of a program that says where the node stands.
        from importlib import metadata

        try:
            version = metadata.version("updated")
        except metadata.PackageNotFoundError:
            version = "unknown"
        print(f"{parser.prog} {version}")
        parser.exit()
