import os
import select
import signal
import subprocess
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from health.check import OUTPUT_LIMIT
from health.commands import Commands
from tests.health.conftest import ends


def run(script: str, timeout_seconds: float = 20) -> tuple[int | None, str]:
    finished = Commands().run(("/bin/sh", "-c", script), timeout_seconds=timeout_seconds)
    return finished.status, finished.output


def test_status_and_both_outputs_are_kept() -> None:
    assert run("echo out; echo err >&2; exit 7") == (7, "out\nerr\n")


def test_the_end_of_a_long_output_is_kept() -> None:
    status, output = run("seq 1 100000; echo the reason")
    assert status == 0
    assert len(output) == OUTPUT_LIMIT
    assert output.endswith("100000\nthe reason\n")


def test_the_limit_counts_characters_and_not_bytes() -> None:
    output = run("for i in $(seq 3000); do printf '𝄞'; done")[1]
    assert output == "𝄞" * OUTPUT_LIMIT


def test_output_that_is_not_text_is_shown_with_replacement_characters() -> None:
    assert run(r"printf 'a\377\376b\000c'")[1] == "a��b\0c"


def test_a_command_killed_by_a_signal_has_a_negative_status() -> None:
    assert run("kill -SEGV $$")[0] == -signal.SIGSEGV


def test_a_command_gets_no_input_to_wait_for() -> None:
    """The standard input of this process is one that never ends meanwhile."""
    reader, writer = os.pipe()
    saved = os.dup(0)
    try:
        os.dup2(reader, 0)
        assert run("cat; echo end", timeout_seconds=5) == (0, "end\n")
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, reader, writer):
            os.close(descriptor)


def test_a_time_out_kills_the_grandchildren_too() -> None:
    status, output = run("sh -c 'sleep 1000 & echo $!; wait'", timeout_seconds=0.5)
    assert status is None
    assert ends(int(output))


def test_a_time_out_kills_what_ignores_polite_signals() -> None:
    status, output = run("trap '' TERM INT HUP; echo $$; while :; do sleep 1000; done", timeout_seconds=0.5)
    assert status is None
    assert ends(int(output))


def test_a_process_left_behind_neither_delays_the_result_nor_lives_on() -> None:
    status, output = run("sleep 1000 & echo $!")
    assert status == 0
    assert ends(int(output))


def test_a_process_that_left_the_group_and_holds_the_output_delays_nothing() -> None:
    status, output = run("setsid sleep 1000 & echo $!; sleep 0.2")
    pid = int(output)
    os.kill(pid, signal.SIGKILL)  # which shows that it lived
    assert status == 0


def test_a_flood_of_output_ends_at_the_time_out() -> None:
    status, output = run("yes", timeout_seconds=0.3)
    assert status is None
    assert len(output) == OUTPUT_LIMIT


def test_however_much_is_written_little_is_kept_in_memory() -> None:
    tracemalloc.start()
    try:
        status, _ = run("head -c 30000000 /dev/zero")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 0
    assert peak < 3_000_000


def test_what_was_written_is_kept_when_the_time_out_is_noticed_late(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            assert self.stdout is not None
            assert select.select([self.stdout], [], [], 10)[0]

    monkeypatch.setattr(subprocess, "Popen", Slow)
    assert run("echo half; sleep 1000", timeout_seconds=0) == (None, "half\n")


def test_closing_the_outputs_early_does_not_end_the_check() -> None:
    assert run("exec >&- 2>&-; sleep 0.2; exit 3") == (3, "")


def test_a_command_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        Commands().run(("/no/such/program",), timeout_seconds=1)


def test_kill_all_ends_what_runs_now_and_what_starts_later(tmp_path: Path) -> None:
    commands, fifo = Commands(), tmp_path / "started"
    os.mkfifo(fifo)
    statuses: list[int | None] = []

    def work() -> None:
        argv = ("/bin/sh", "-c", f"echo $$ > {fifo}; sleep 1000")
        statuses.append(commands.run(argv, timeout_seconds=60).status)

    thread = threading.Thread(target=work)
    thread.start()
    pid = int(fifo.read_text())
    commands.kill_all()
    thread.join()
    assert statuses == [-signal.SIGKILL]
    assert ends(pid)
    with pytest.raises(InterruptedError):
        commands.run(("/bin/sleep", "1000"), timeout_seconds=60)


def test_kill_all_waits_for_a_command_that_is_just_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or it would run on when this process exits right afterwards."""
    begun, gate = threading.Event(), threading.Event()

    class Slow(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            begun.set()
            assert gate.wait(10)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    commands, statuses = Commands(), list[int | None]()

    def work() -> None:
        statuses.append(commands.run(("/bin/sleep", "1000"), timeout_seconds=60).status)

    starter, killer = threading.Thread(target=work), threading.Thread(target=commands.kill_all)
    starter.start()
    assert begun.wait(10)
    killer.start()
    killer.join(0.1)
    waited = killer.is_alive()
    gate.set()
    killer.join()
    starter.join()
    assert (waited, statuses) == (True, [-signal.SIGKILL])
