"""A scripted agent: `peer.py FOLDER`. The n-th process plays FOLDER/n.json and writes what it is asked to FOLDER/asked.

The play is a list with one entry a request; an entry is a list of acts, done in order:
{"send": {...}} one line, with the request's id put in; {"raw": "..."} bytes as they are (latin-1); {"huge": N} a line of N
bytes; {"touch": NAME} makes FOLDER/NAME, {"until": NAME} waits for it; {"deaf": true} reads nothing more; {"warn": "..."} standard error; {"sleep": S}; {"exit": STATUS}; {"die": true} ends the whole session from the server's side.
After the last entry it waits for the end of its input.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    folder = Path(sys.argv[1])
    for request_acts in json.loads((folder / f"{_turn(folder)}.json").read_text()):
        line = sys.stdin.buffer.readline()
        if not line:
            return 0
        request = json.loads(line)
        with (folder / "asked").open("a") as asked:
            asked.write(json.dumps(request) + "\n")
        for act in request_acts:
            if "exit" in act:
                return int(act["exit"])
            _do(act, request["id"], folder)
            sys.stdout.flush()
    sys.stdin.buffer.read()
    return 0


def _turn(folder: Path) -> int:
    """Which process this is, from 1."""
    turn = 1
    while True:
        try:
            (folder / f"{turn}.started").touch(exist_ok=False)
        except FileExistsError:
            turn += 1
        else:
            return turn


def _do(act: dict[str, Any], number: int, folder: Path) -> None:
    out = sys.stdout.buffer
    match act:
        case {"send": answer}:
            out.write(json.dumps({"id": number, **answer}).encode() + b"\n")
        case {"raw": text}:
            out.write(text.encode("latin-1"))
        case {"huge": size}:
            out.write(b'{"id": 1, "ok": true, "result": "' + b"x" * size + b'"}\n')
        case {"warn": text}:
            sys.stderr.write(text)
            sys.stderr.flush()
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"touch": name}:
            (folder / name).touch()
        case {"until": name}:
            deadline = time.monotonic() + 60
            while not (folder / name).exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        case {"deaf": _}:
            (folder / "deaf").write_text(str(os.getpid()))
            time.sleep(120)
        case {"die": _}:
            time.sleep(0.2)  # what was written is on its way
            os.kill(_session_parent(), signal.SIGKILL)
        case _:
            raise ValueError(act)


def _session_parent() -> int:
    """The process of sshd that serves this connection: the parent of the session's leader."""
    stat = Path(f"/proc/{os.getsid(0)}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


if __name__ == "__main__":
    raise SystemExit(main())
