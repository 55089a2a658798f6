"""Compiling the module, and asking a compiled policy what it allows: libsepol, no SELinux in the kernel, no root."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from tests.selinux import stub

MISSING = [
    program
    for program in ("make", "checkmodule", "semodule_package", "semodule_link", "semodule_expand")
    if shutil.which(program) is None
]
if MISSING and os.environ.get("CI") != "true":
    reason = f"no {', '.join(MISSING)} here: apt-get install make checkpolicy semodule-utils"
    pytest.skip(reason, allow_module_level=True)

SOURCE = Path(__file__).parents[2] / "selinux"
Answer = Literal["allowed", "type", "categories", "role"]


def run(*argv: str, cwd: Path) -> str:
    """What a program printed. Raises AssertionError with all of it when it failed."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{argv[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def compiled(module: str, folder: Path) -> Path:
    """The package of a module's source, built as the Makefile builds it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "panel.te").write_text(module)
    run("checkmodule", "-M", "-m", "-c", "19", "-o", "panel.mod", "panel.te", cwd=folder)
    run("semodule_package", "-o", "panel.pp", "-m", "panel.mod", "-f", str(SOURCE / "panel.fc"), cwd=folder)
    return folder / "panel.pp"


def linked(module: str, family: stub.Family, folder: Path) -> Policy:
    """The policy of a module over the stub of a family."""
    compiled(module, folder)
    (folder / "base.te").write_text(stub.base(module, family))
    run("checkmodule", "-M", "-o", "base.mod", "base.te", cwd=folder)
    run("semodule_package", "-o", "base.pp", "-m", "base.mod", cwd=folder)
    run("semodule_link", "-o", "linked", "base.pp", "panel.pp", cwd=folder)
    run("semodule_expand", "linked", "policy", cwd=folder)
    return Policy(folder / "policy")


class _Decision(ctypes.Structure):
    _fields_: ClassVar = [
        (name, ctypes.c_uint32) for name in ("allowed", "decided", "auditallow", "auditdeny", "seqno")
    ]


_SEPOL = ctypes.CDLL("libsepol.so.2")
_LIBC = ctypes.CDLL(None)
_LIBC.fopen.restype = ctypes.c_void_p
_LIBC.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_LIBC.fclose.argtypes = [ctypes.c_void_p]
_SEPOL.sepol_handle_create.restype = ctypes.c_void_p
_REASONS: tuple[tuple[int, Answer], ...] = ((1, "type"), (2, "categories"), (4, "role"), (8, "role"))


@contextmanager
def _opened(path: Path, mode: bytes) -> Iterator[ctypes.c_void_p]:
    stream = _LIBC.fopen(os.fsencode(path), mode)
    assert stream, path
    try:
        yield ctypes.c_void_p(stream)
    finally:
        _LIBC.fclose(stream)


class Policy:
    """A compiled policy in a file. libsepol holds one at a time, so it is loaded again when another was asked."""

    _loaded: ClassVar[Path | None] = None

    def __init__(self, path: Path) -> None:
        self.path = path

    def _load(self) -> None:
        if Policy._loaded != self.path:
            with _opened(self.path, b"rb") as stream:
                assert _SEPOL.sepol_set_policydb_from_file(stream) == 0, self.path
            Policy._loaded = self.path

    @staticmethod
    def _sid(context: str) -> ctypes.c_uint32:
        sid, raw = ctypes.c_uint32(), context.encode()
        size = ctypes.c_size_t(len(raw) + 1)
        assert _SEPOL.sepol_context_to_sid(raw, size, ctypes.byref(sid)) == 0, f"no such context: {context}"
        return sid

    def ask(self, source: str, target: str, kind: str, permission: str) -> Answer:
        """Whether an access is allowed, else what stands in its way first. Raises AssertionError for unknown names."""
        self._load()
        number, bit, why = ctypes.c_uint16(), ctypes.c_uint32(), ctypes.c_uint()
        decision = _Decision()
        assert _SEPOL.sepol_string_to_security_class(kind.encode(), ctypes.byref(number)) == 0, kind
        assert _SEPOL.sepol_string_to_av_perm(number, permission.encode(), ctypes.byref(bit)) == 0, permission
        one, other = self._sid(source), self._sid(target)
        out = ctypes.byref(decision), ctypes.byref(why)
        assert _SEPOL.sepol_compute_av_reason(one, other, number, bit, *out) == 0
        if decision.allowed & bit.value:
            return "allowed"
        return next(name for mask, name in _REASONS if why.value & mask)

    def with_boolean(self, name: str) -> Policy:
        """The same policy after `setsebool name on`. Raises AssertionError when it has no such boolean."""
        handle = ctypes.c_void_p(_SEPOL.sepol_handle_create())
        policy, file, key, value = (ctypes.c_void_p() for _ in range(4))
        fresh = self.path.with_name(f"{self.path.name}.{name}")
        assert _SEPOL.sepol_policydb_create(ctypes.byref(policy)) == 0
        assert _SEPOL.sepol_policy_file_create(ctypes.byref(file)) == 0
        with _opened(self.path, b"rb") as stream:
            _SEPOL.sepol_policy_file_set_fp(file, stream)
            assert _SEPOL.sepol_policydb_read(policy, file) == 0
        assert _SEPOL.sepol_bool_key_create(handle, name.encode(), ctypes.byref(key)) == 0
        assert _SEPOL.sepol_bool_query(handle, policy, key, ctypes.byref(value)) == 0, name
        _SEPOL.sepol_bool_set_value(value, 1)
        assert _SEPOL.sepol_bool_set(handle, policy, key, value) == 0, name
        with _opened(fresh, b"wb") as stream:
            _SEPOL.sepol_policy_file_set_fp(file, stream)
            assert _SEPOL.sepol_policydb_write(policy, file) == 0
        return Policy(fresh)
