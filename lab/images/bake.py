"""The layers with a whole web stack: installed once in a running node by the node's own package manager."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..host import LabError, clean_env
from .cache import Artefact
from .debian import DEBIAN12
from .el9 import EL9

DEBIAN_UNITS = ("nginx", "php8.2-fpm", "mariadb", "postgresql@15-main", "redis-server")
EL_UNITS = ("nginx", "php82-php-fpm", "php84-php-fpm", "mariadb", "postgresql", "redis")

DEBIAN_SCRIPT = """
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io install -y \
  nginx php8.2-fpm php8.2-cli php8.2-mysql php8.2-pgsql php8.2-redis php8.2-opcache php8.2-mbstring php8.2-xml \
  php8.2-curl php8.2-zip php8.2-gd php8.2-bcmath php8.2-intl mariadb-server postgresql redis-server certbot
apt-get clean
"""

EL_SCRIPT = """
set -e
dnf -y -q install epel-release remi-release
for php in php82-php php84-php; do
  list="$list $php-fpm $php-cli $php-common $php-mysqlnd $php-pgsql $php-opcache $php-mbstring $php-xml $php-gd"
  list="$list $php-bcmath $php-intl $php-pecl-zip $php-pecl-redis6"
done
dnf -y -q install nginx $list mariadb-server postgresql-server redis certbot firewalld policycoreutils-python-utils
dnf -q clean packages
systemctl enable --now nginx php82-php-fpm php84-php-fpm mariadb redis
postgresql-setup --initdb
systemctl enable --now postgresql
"""

# What belongs to one node and must not be shared by all that start from the layer.
PERSONAL = (
    "etc/machine-id",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_ed25519_key",
    "etc/ssh/ssh_host_ed25519_key.pub",
    "root/.ssh",
    "root/.bash_history",
    "var/log/journal",
    "var/lib/systemd/random-seed",
    "tmp",
    "var/tmp",
    "run",
)


def _bake(image: str, script: str, units: tuple[str, ...], out: Path) -> None:
    """Runs `script` in a fresh node and keeps what it changed on its disk."""
    from ..core import Lab  # noqa: PLC0415 - the lab knows the images, so not at the top

    with Lab() as lab:
        node = lab.add("bake", image)
        lab.up(node)
        node.run(script, timeout=1800)
        node.wait_active(*units)
        node.poweroff()
        for name in PERSONAL:
            path = node.upper / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        # the overlay's bookkeeping is in extended attributes: cp keeps them, shutil does not
        subprocess.run(["cp", "-a", f"{node.upper}/.", str(out)], check=True, timeout=600)


def _apart(name: str, out: Path) -> None:
    """Bakes in a process of its own: making a lab takes the calling process off the network for good."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.images.bake", name, str(out)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=clean_env(RECONCILER_LAB_CACHE=str(out.parents[2])),
        timeout=3600,
    )
    if done.returncode:
        raise LabError(f"baking {name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def _build_debian_web(out: Path, _inputs: Mapping[str, Path]) -> None:
    _apart("debian12-web", out)


def _build_el_web(out: Path, _inputs: Mapping[str, Path]) -> None:
    _apart("el9-web", out)


DEBIAN12_WEB = Artefact("debian12-web", _build_debian_web, ("bake.py",), (DEBIAN12,))
EL9_WEB = Artefact("el9-web", _build_el_web, ("bake.py",), (EL9,))


def main(name: str, out: Path) -> None:
    """Bakes one layer; the entry point of the process that does it."""
    if name == "el9-web":
        _bake("el9", EL_SCRIPT, EL_UNITS, out)
    else:
        _bake("debian12", DEBIAN_SCRIPT, DEBIAN_UNITS, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
