"""Several processes, a full disk, the end of the interpreter: each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.store import create_state, identity, open_state

INCREMENT = """
import sys
from pathlib import Path
from reconciler.store import identity, open_state

def increment(tx):
    identity.put(tx, "number", str(int(identity.get(tx, "number") or 0) + 1))
"""

GROW = """
from reconciler.errors import StoreFault
store = open_state(Path(sys.argv[1]), {})
try:
    for n in range(200):
        store.write(lambda tx: identity.put(tx, f"bulk{n}", "x" * 40_000))
except StoreFault as fault:
    print(fault.message, "|", fault.hint)
    print(store.read(lambda tx: identity.get(tx, f"bulk{n}")), store.read(lambda tx: identity.get(tx, f"bulk{n - 1}"))[:3])
store.close()
"""


def run(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    create_state(folder, {})
    return folder


def number(state: Path) -> str | None:
    with open_state(state, {}) as store:
        return store.read(lambda tx: identity.get(tx, "number"))


def test_two_processes_write_at_once_and_lose_nothing(state: Path) -> None:
    script = (
        INCREMENT + "store = open_state(Path(sys.argv[1]), {})\nfor _ in range(60): store.write(increment)\n"
    )
    command = [sys.executable, "-c", script, str(state)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert number(state) == "120"


def test_two_processes_create_one_state(tmp_path: Path) -> None:
    script = "import sys\nfrom pathlib import Path\nfrom reconciler.store import create_state\n"
    script += "print(create_state(Path(sys.argv[1]), {}).lineage)"
    command = [sys.executable, "-c", script, str(tmp_path / "state")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lineages = [process.communicate(timeout=60)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert lineages[0] == lineages[1] != ""


def test_the_interpreter_ends_with_an_open_store(state: Path) -> None:
    script = INCREMENT + (
        "import asyncio\n"
        "store = open_state(Path(sys.argv[1]), {})\n"
        "store.write(increment)\n"
        "asyncio.run(store.awrite(increment))\n"
        "print(asyncio.run(store.aread(lambda tx: identity.get(tx, 'number'))))\n"
    )
    ended = run(script, str(state))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2\n", "")
    assert sorted(file.name for file in state.iterdir()) == ["app.key", "state.sqlite"]  # closed in order
    assert number(state) == "2"


def test_the_interpreter_ends_while_a_unit_of_work_never_does(state: Path) -> None:
    script = INCREMENT + (
        "import threading\n"
        "store = open_state(Path(sys.argv[1]), {})\n"
        "begun = threading.Event()\n"
        "def stuck(tx):\n"
        "    increment(tx)\n"
        "    begun.set()\n"
        "    threading.Event().wait(3600)\n"
        "threading.Thread(target=store.write, args=(stuck,), daemon=True).start()\n"
        "begun.wait(10)\n"
    )
    ended = run(script, str(state))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert number(state) is None


def test_killed_in_the_middle_of_a_unit_nothing_of_it_is_there(state: Path) -> None:
    script = INCREMENT + (
        "import os, signal\n"
        "store = open_state(Path(sys.argv[1]), {})\n"
        "store.write(increment)\n"
        "store.write(lambda tx: (increment(tx), os.kill(os.getpid(), signal.SIGKILL)))\n"
    )
    assert run(script, str(state)).returncode == -9
    assert number(state) == "1"


def test_a_full_disk_is_a_fault_with_advice_and_undoes_the_unit(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    script = (
        "import subprocess\n"
        + INCREMENT
        + "from reconciler.store import create_state\n"
        + "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=2m,mode=700', 'tmpfs', sys.argv[1]], check=True)\n"
        + "create_state(Path(sys.argv[1]), {})\n"
        + GROW
    )
    before = ("unshare", "--mount", "--propagation", "private")
    if os.geteuid() != 0 or subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    ended = run(script, str(mount), before=before)
    assert ended.stderr == ""
    message, values = ended.stdout.splitlines()
    assert "is full; nothing was changed" in message
    assert "free space on the file system" in message
    assert values == "None xxx"


def test_a_limit_on_file_sizes_is_a_fault_too(state: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
    ended = run(INCREMENT + limit + GROW, str(state))
    assert ended.stderr == ""
    message, values = ended.stdout.splitlines()
    assert "the disk refused the database" in message
    assert "limits on file sizes" in message
    assert values == "None xxx"
    with open_state(state, {}) as store:
        assert store.read(lambda tx: identity.get(tx, "bulk0")) == "x" * 40_000


def test_neither_importing_nor_opening_the_store_loads_alembic(state: Path) -> None:
    script = INCREMENT + (
        "store = open_state(Path(sys.argv[1]), {})\n"
        "store.write(increment)\n"
        "store.close()\n"
        "print([name for name in sys.modules if name.startswith('alembic')])\n"
    )
    ended = run(script, str(state))
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_a_store_that_nobody_refers_to_is_not_kept_by_the_exit_hook(state: Path) -> None:
    script = INCREMENT + (
        "import gc, weakref\n"
        "store = open_state(Path(sys.argv[1]), {})\n"
        "store.close()\n"
        "gone = weakref.ref(store)\n"
        "del store\n"
        "gc.collect()\n"
        "print(gone())\n"
    )
    assert run(script, str(state)).stdout == "None\n"
