"""command checks, with real programs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from reconciler.loop.health import CommandCheck, HealthTarget
from reconciler.loop.probes import command
from reconciler.loop.probes.model import Verdict
from reconciler.secrets.redact import Redactor

SHOP = HealthTarget("Site", "shop", "web1", "203.0.113.10", "shop.example.test")
WEB1 = HealthTarget("Server", "web1", "web1", "203.0.113.10")


async def run(*words: str, target: HealthTarget = SHOP, seconds: float = 20.0) -> Verdict:
    async with asyncio.timeout(60):
        return await command.probe(target, CommandCheck("smoke"), {"smoke": words}, str, seconds=seconds)


def python(text: str) -> tuple[str, ...]:
    import sys

    return (sys.executable, "-c", text)


async def alive(pid: int) -> bool:
    """Whether a process still runs; one that was killed may take a moment to go."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state in "ZX":
            return False
        await asyncio.sleep(0.02)
    return True


async def test_a_command_that_ends_with_zero_passes() -> None:
    assert (await run("/bin/true")).ok


async def test_a_command_that_fails_says_what_it_printed() -> None:
    verdict = await run("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    assert not verdict.ok
    assert verdict.message == "ended with 3: out\nerr"


async def test_placeholders_are_filled_inside_words_and_there_is_no_shell() -> None:
    words = ("--site={site}", "{domain}:{address}", "{server}", "$(id)", "{other}", "; exit 9")
    verdict = await run(*python("import sys; print(sys.argv[1:]); sys.exit(1)"), *words)
    assert verdict.message == (
        "ended with 1: ['--site=shop', 'shop.example.test:203.0.113.10', 'web1', '$(id)', '{other}', '; exit 9']"
    )


async def test_a_value_is_never_filled_again_nor_split() -> None:
    odd = HealthTarget("Site", "{server} b", "web1", "203.0.113.10", "shop.example.test")
    verdict = await run(*python("import sys; print(sys.argv[1:]); sys.exit(1)"), "{site}", target=odd)
    assert verdict.message == "ended with 1: ['{server} b']"


async def test_a_server_has_no_domain_to_fill_in() -> None:
    verdict = await run("/bin/true", "{domain}", target=WEB1)
    assert verdict.message == "the command 'smoke' uses {domain}, which a Server does not have"
    assert (await run("/bin/true", "{server}", "{address}", target=WEB1)).ok


async def test_an_unknown_command_fails_with_a_hint() -> None:
    close = await command.probe(SHOP, CommandCheck("smoek"), {"smoke": ("/bin/true",)}, str)
    far = await command.probe(SHOP, CommandCheck("x"), {}, str)
    assert close.message == "there is no command 'smoek'; did you mean 'smoke'?"
    assert far.message == "there is no command 'x'; add it to 'checks' of the daemon's settings"


async def test_a_program_that_cannot_be_started_fails() -> None:
    verdict = await run("/no/such/program")
    assert verdict.message == "the command 'smoke' cannot be started: No such file or directory"
    assert not (await run("with\0null")).ok


async def test_at_the_time_out_the_whole_group_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! $$ > {pids}; trap '' TERM; echo begun; wait; sleep 600"
    verdict = await run("/bin/sh", "-c", script, seconds=1.5)
    assert verdict.message == "did not end within 1.5 s: begun"
    for pid in pids.read_text().split():
        assert not await alive(int(pid))


async def test_what_a_command_leaves_behind_is_not_waited_for_and_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    verdict = await run("/bin/sh", "-c", f"sleep 600 & echo $! > {pids}", seconds=40)
    assert verdict.ok, verdict.message
    assert not await alive(int(pids.read_text()))


async def test_a_cancelled_check_leaves_nothing_running(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task = asyncio.create_task(run("/bin/sh", "-c", f"sleep 600 & echo $! $$ > {pids}; wait"))
    while not pids.exists() or len(pids.read_text().split()) < 2:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in pids.read_text().split():
        assert not await alive(int(pid))


async def test_a_signal_is_told() -> None:
    assert (await run("/bin/sh", "-c", "kill -9 $$")).message == "was ended by signal 9"


async def test_output_is_masked_and_its_end_is_kept_within_four_kibibytes() -> None:
    secret = "correct-horse-battery"
    script = (
        f"print('start'); print('x' * 200_000); print('{secret}'); print('the reason'); raise SystemExit(2)"
    )
    redact = Redactor([secret])
    verdict = await command.probe(SHOP, CommandCheck("smoke"), {"smoke": python(script)}, redact)
    assert secret not in verdict.message
    assert verdict.message.endswith("•••\nthe reason")
    assert len(verdict.message.encode()) <= command.OUTPUT + 64


async def test_half_a_secret_at_the_cut_is_not_shown() -> None:
    secret = "s3cret" * 20_000  # longer than what is captured
    script = f"print('{secret[:6]}' * 20_000); print('end'); raise SystemExit(2)"
    verdict = await command.probe(SHOP, CommandCheck("smoke"), {"smoke": python(script)}, Redactor([secret]))
    assert verdict.message == "ended with 2: end"


async def test_bytes_that_are_no_text_do_no_harm() -> None:
    verdict = await run(*python("import sys; sys.stdout.buffer.write(b'\\xff\\xfe!'); sys.exit(1)"))
    assert verdict.message == "ended with 1: \ufffd\ufffd!"


async def test_a_command_gets_no_input_and_nothing_of_our_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APP_KEY", "the-key-of-the-database")
    script = "import os, sys; print(sorted(os.environ), repr(sys.stdin.read()), os.getcwd()); sys.exit(1)"
    verdict = await run(*python(script))
    assert "'APP_KEY'" not in verdict.message
    assert "'PATH'" in verdict.message
    assert verdict.message.endswith("'' /")


async def test_no_descriptor_is_left_open() -> None:
    await run("/bin/true")  # whatever the loop opens once
    before = len(os.listdir("/proc/self/fd"))
    for words in (("/bin/true",), ("/no/such/program",), ("/bin/sh", "-c", "exit 1")):
        await run(*words)
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before
