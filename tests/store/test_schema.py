"""Migrations on a filled database, and databases that are not what they should be."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from reconciler.errors import SettingsFault, StoreDamaged
from reconciler.secrets import Box
from reconciler.store import Store, daemon_tables, schema
from reconciler.store.columns import metadata
from reconciler.store.connections import engine
from reconciler.store.queries import databases

from .filled import PASSWORD, counts, fill

NEWEST = schema.REVISIONS[-1]
NEXT = f"{int(NEWEST) + 1:04}"
REBUILD = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{NEWEST}"


def upgrade() -> None:
    for table in ("servers", "users", "sites", "ssh_keys", "deployments"):
        with op.batch_alter_table(table, recreate="always") as batch:
            batch.add_column(sa.Column("note", sa.Text, nullable=True))
"""
DANGLE = f"""
from alembic import op

revision = "{NEXT}"
down_revision = "{NEWEST}"


def upgrade() -> None:
    op.execute("UPDATE sites SET server_id = 'nowhere'")
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A copy of the migrations that a test may add to."""
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    for path in (schema.MIGRATIONS / "env.py", *(schema.MIGRATIONS / "versions").glob("r*.py")):
        name = path.relative_to(schema.MIGRATIONS)
        (folder / name).write_text(path.read_text())
    return folder


def described(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The DDL of every object, its clauses in a fixed order."""
    statement = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    return {
        name: tuple(sorted(line.strip().rstrip(",") for line in sql.replace('"', "").splitlines()))
        for name, sql in connection.execute(statement)
    }


def test_the_migrations_make_what_the_tables_say(path: Path, tmp_path: Path) -> None:
    made = engine(tmp_path / "fresh.sqlite", "BEGIN IMMEDIATE", poolclass=sa.NullPool)
    (tmp_path / "fresh.sqlite").touch()
    with made.begin() as connection:
        assert daemon_tables.sources.metadata is metadata
        metadata.create_all(connection)
    with (
        closing(sqlite3.connect(path)) as migrated,
        closing(sqlite3.connect(tmp_path / "fresh.sqlite")) as fresh,
    ):
        assert described(migrated) == described(fresh)
        assert len(described(fresh)) > 30


def test_the_known_revisions_are_the_ones_in_the_folder() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    config.set_main_option("path_separator", "os")
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS


def test_rebuilding_tables_of_a_filled_database_keeps_every_row(path: Path, box: Box, scripts: Path) -> None:
    with Store.open(path, box) as store:
        ids = store.write(fill)
        before = store.read(counts)
    (scripts / "versions" / f"r{NEXT}_rebuild.py").write_text(REBUILD)
    schema.migrate(path, scripts=scripts, head=NEXT)
    with closing(sqlite3.connect(path)) as connection:
        after = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in before}
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (NEXT,)
        assert connection.execute("SELECT note, ssh_key_id FROM servers").fetchone() == (None, ids.key)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert after == before
    assert min(after.values()) == 1


def test_with_foreign_keys_on_the_same_rebuild_would_lose_rows(path: Path, box: Box) -> None:
    with Store.open(path, box) as store:
        store.write(fill)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN")
        connection.execute("PRAGMA foreign_keys = OFF")  # has no effect here, which is the trap
        connection.execute("CREATE TABLE servers_2 AS SELECT * FROM servers")
        connection.execute("DROP TABLE servers")
        assert connection.execute("SELECT count(*) FROM sites").fetchone() == (0,)
        connection.execute("ROLLBACK")


def test_a_migration_that_would_leave_dangling_references_changes_nothing(
    path: Path, box: Box, scripts: Path
) -> None:
    with Store.open(path, box) as store:
        store.write(fill)
    (scripts / "versions" / f"r{NEXT}_dangle.py").write_text(DANGLE)
    with pytest.raises(StoreDamaged, match="dangling references in sites; nothing was changed"):
        schema.migrate(path, scripts=scripts, head=NEXT)
    with Store.open(path, box) as store:
        assert store.read(counts)["sites"] == 1


def test_opening_an_older_database_migrates_it_after_a_backup(
    path: Path, box: Box, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(path, box) as store:
        ids = store.write(fill)
    (scripts / "versions" / f"r{NEXT}_rebuild.py").write_text(REBUILD)
    monkeypatch.setattr(schema, "MIGRATIONS", scripts)
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, NEXT))
    monkeypatch.setattr(schema, "HEAD", NEXT)
    with Store.open(path, box) as store:
        assert store.read(lambda tx: databases.password_of(tx, ids.database)).reveal() == PASSWORD
    assert schema.revision_of(path) == NEXT
    kept = path.with_name(f"state.sqlite.before-{NEXT}")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert schema.revision_of(kept) == NEWEST


def test_denials_of_before_they_were_counted_are_one_each_of_their_time(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    path.touch()
    schema.migrate(path, scripts=schema.MIGRATIONS, head="0002")
    at = "2026-01-31T12:00:00.000000Z"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO selinux_audit_logs (id, log_level, message, created_at) VALUES (?, 'warning', 'avc', ?)",
            ("01", at),
        )
    schema.migrate(path, scripts=schema.MIGRATIONS, head="0003")
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT count, identity, first_at, last_at FROM selinux_audit_logs")
        assert found.fetchall() == [(1, "", at, at)]


def test_sites_of_before_stay_and_later_ones_need_no_php(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    path.touch()
    schema.migrate(path, scripts=schema.MIGRATIONS, head="0003")
    at = "2026-01-31T12:00:00.000000Z"
    site = (
        "INSERT INTO sites (id, server_id, name, domain, document_root, system_user, php_version, app_type, created_at, updated_at)"
        f" VALUES (?, 's1', ?, ?, '', ?, ?, ?, '{at}', '{at}')"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        columns = {row[1]: row for row in connection.execute("PRAGMA table_info(servers)")}
        needed = [name for name, row in columns.items() if row[3] and row[4] is None and name != "id"]
        given = {"os_version": "alma_9", "web_server": "nginx", "database_engines": "[]", "software": "{}"}
        values = [given.get(name, at if name.endswith("_at") else name) for name in needed]
        marks = ", ".join("?" for _ in needed)
        connection.execute(f"INSERT INTO servers (id, {', '.join(needed)}) VALUES ('s1', {marks})", values)
        connection.execute(site, ("1", "shop", "shop.test", "web1", "8.2", "wordpress"))
    schema.migrate(path, scripts=schema.MIGRATIONS, head="0004")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(site, ("2", "docs", "docs.test", "web2", None, "static"))
        connection.execute(site, ("3", "chat", "chat.test", "web3", None, "proxy"))
        with pytest.raises(sqlite3.IntegrityError, match="ck_sites_app_type"):
            connection.execute(site, ("4", "bad", "bad.test", "web4", None, "java"))
        found = connection.execute("SELECT name, php_version, app_type, status FROM sites ORDER BY id")
        assert found.fetchall() == [
            ("shop", "8.2", "wordpress", "creating"),
            ("docs", None, "static", "creating"),
            ("chat", None, "proxy", "creating"),
        ]


def test_a_database_of_a_newer_version_is_left_alone(path: Path, box: Box) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(
        StoreDamaged, match=f"schema revision 9999, this program knows up to {NEWEST}"
    ) as caught:
        Store.open(path, box)
    assert "newer version" in caught.value.hint


def test_a_file_that_is_no_database_is_damaged(path: Path, box: Box) -> None:
    path.write_bytes(b"once upon a time " * 1000)
    with pytest.raises(StoreDamaged, match="file is not a database") as caught:
        Store.open(path, box)
    assert "reconciler restore" in caught.value.hint


def test_an_empty_file_is_damaged_rather_than_a_new_database(path: Path, box: Box) -> None:
    path.write_bytes(b"")
    with pytest.raises(StoreDamaged, match="is empty"):
        Store.open(path, box)


def test_a_database_with_a_broken_page_is_damaged(path: Path, box: Box) -> None:
    with Store.open(path, box) as store:
        store.write(fill)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match="malformed"), Store.open(path, box) as store:
        store.read(counts)


def test_the_database_of_another_program_is_left_alone(path: Path, box: Box) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE recipes (id)")
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="belongs to another program"):
        Store.open(path, box)
    assert path.read_bytes() == before


def test_a_missing_database_says_how_to_make_one(tmp_path: Path, box: Box) -> None:
    with pytest.raises(SettingsFault, match="no database at") as caught:
        Store.open(tmp_path / "state.sqlite", box)
    assert "reconciler init" in caught.value.hint


def test_a_symlink_is_not_opened_and_a_readable_file_is_closed_to_others(path: Path, box: Box) -> None:
    link = path.with_name("link.sqlite")
    link.symlink_to(path)
    with pytest.raises(SettingsFault, match="not a plain file"):
        Store.open(link, box)
    path.chmod(0o644)
    with Store.open(path, box) as store:
        store.write(fill)
        assert {file.stat().st_mode & 0o777 for file in path.parent.glob("state.sqlite*")} == {0o600}


def test_creating_never_replaces_a_database(path: Path, box: Box) -> None:
    with pytest.raises(FileExistsError):
        Store.create(path, box)
    assert not list(path.parent.glob(".state.sqlite*"))
