"""The fleet that is measured: servers with everything installed, and a number of sites on each."""

from __future__ import annotations

import subprocess
from pathlib import Path

SERVER = """\
apiVersion: reconciler/v1
kind: Server
metadata: {{name: {name}}}
spec:
  address: {address}
  os: alma_9
  selinux: {{mode: disabled}} # the nodes are containers, whose kernel has none
  sshKey: bench
  databaseEngines: [mariadb]
  software: {{php: ["8.2"]}}
"""
SITE = """\
apiVersion: reconciler/v1
kind: Site
metadata: {{name: {name}}}
spec: {{server: {server}, domain: {name}.example.test, phpVersion: "8.2"}}
"""
KEY = "apiVersion: reconciler/v1\nkind: SSHKey\nmetadata: {name: bench}\n"


def write(folder: Path, servers: dict[str, str], sites: int) -> None:
    """Make a fleet repository: `servers` maps names to addresses; each gets `sites` sites."""
    folder.mkdir()
    (folder / "key.yaml").write_text(KEY)
    for name, address in servers.items():
        documents = [SERVER.format(name=name, address=address)]
        documents += [SITE.format(name=f"{name}-s{n:02}", server=name) for n in range(sites)]
        (folder / f"{name}.yaml").write_text("---\n".join(documents))
    commit(folder, "Declare the fleet", new=True)


def commit(folder: Path, message: str, *, new: bool = False) -> None:
    """Commit everything in the folder."""
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.test"]
    if new:
        subprocess.run([*git, "init", "-q", "-b", "main"], cwd=folder, check=True)
    subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-q", "-m", message], cwd=folder, check=True)
