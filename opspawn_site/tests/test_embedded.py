"""PostgreSQL and Valkey as children: started, believed when they answer, ended, and come back after a crash."""
from __future__ import annotations

import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import psycopg
import pytest
import redis

from opspawn_site.fleet import unprivileged
from opspawn_site.fleet.errors import PartFailed
from opspawn_site.fleet.folder import DataFolder
from opspawn_site.fleet.ports import Claims
from opspawn_site.fleet.postgres import Postgres
from opspawn_site.fleet.process import living_in, why_it_ended
from opspawn_site.fleet.valkey import Valkey
from opspawn_site.tests.fleets import data_folder, until

Server = Postgres | Valkey


@pytest.fixture
def folder() -> Iterator[DataFolder]:
    with data_folder() as made:
        yield made


@pytest.fixture
def postgres(folder: DataFolder) -> Iterator[Postgres]:
    server = Postgres(folder, Claims().kept(folder, "postgres"), throwaway=True)
    yield server
    server.remove()


@pytest.fixture
def valkey(folder: DataFolder) -> Valkey:
    return Valkey(folder, Claims().kept(folder, "redis"))


def start(server: Server) -> subprocess.Popen[bytes]:
    """Start it and wait until it answers."""
    process = server.program().start()

    def died() -> str | None:
        code = process.poll()
        return None if code is None else why_it_ended(code)

    server.wait(died, time.sleep)
    return process


def stop(process: subprocess.Popen[bytes], server: Server) -> int:
    process.send_signal(server.stop_signal)
    return process.wait(10)


def test_postgres_serves_the_plain_owner_of_one_database_with_vectors(postgres: Postgres) -> None:
    process = start(postgres)
    with psycopg.connect(postgres.url) as db:
        assert db.execute("SELECT '[1,2]'::vector <-> '[1,2]'::vector").fetchone() == (0.0,)
        assert db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    assert stop(process, postgres) == 0


def test_postgres_lets_nobody_in_without_the_password_and_shows_it_to_nobody(postgres: Postgres) -> None:
    process = start(postgres)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace(":", ":x", 2).replace("postgresql:x", "postgresql:"))
    shown = psutil.Process(process.pid)
    assert not [word for word in shown.cmdline() if word and word in postgres.url and len(word) > 20]
    assert {one.laddr.ip for one in shown.net_connections() if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert not [one for one in shown.net_connections("unix") if one.status == psutil.CONN_LISTEN]
    stop(process, postgres)


def test_postgres_keeps_what_was_committed_through_a_kill_and_its_own_stale_pid_file(folder: DataFolder) -> None:
    postgres = Postgres(folder, Claims().kept(folder, "postgres"))  # not a throwaway: with all its care for the disk
    process = start(postgres)
    with psycopg.connect(postgres.url) as db:
        db.execute("CREATE TABLE kept AS SELECT 7 AS n")
    process.kill()
    process.wait()
    assert (postgres.data / "postmaster.pid").exists()
    again = start(postgres)
    with psycopg.connect(postgres.url) as db:
        assert db.execute("SELECT n FROM kept").fetchone() == (7,)
    stop(again, postgres)
    postgres.remove()


def test_a_pid_file_that_names_another_living_program_is_not_believed(postgres: Postgres) -> None:
    stop(start(postgres), postgres)
    with subprocess.Popen(["sleep", "60"]) as other:
        (postgres.data / "postmaster.pid").write_text(f"{other.pid}\n{postgres.data}\n")
        process = start(postgres)
        assert other.poll() is None
        stop(process, postgres)
        other.kill()


def test_a_pid_file_that_names_a_zombie_is_not_believed(postgres: Postgres) -> None:
    first = start(postgres)
    first.kill()
    until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_ZOMBIE)  # nobody has waited for it
    process = start(postgres)
    assert process.pid != first.pid
    stop(process, postgres)


def test_a_server_that_an_earlier_fleet_left_behind_is_ended(postgres: Postgres) -> None:
    left = start(postgres)
    process = start(postgres)
    assert left.poll() == 0
    assert {one.pid for one in living_in(postgres.data, "postgres")} >= {process.pid}
    stop(process, postgres)


def test_data_of_other_secrets_is_told_and_not_tried_for_ever(postgres: Postgres, folder: DataFolder) -> None:
    stop(start(postgres), postgres)
    folder.keep_secret("database_admin", "another")
    process = postgres.program().start()
    with pytest.raises(PartFailed, match=r"was made with other secrets.*--reset"):
        postgres.wait(lambda: None, time.sleep)
    stop(process, postgres)


def test_an_interrupted_initdb_is_begun_again(postgres: Postgres) -> None:
    draft = postgres.data.with_name("postgres.new")
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    stop(start(postgres), postgres)
    assert not draft.exists()


def test_a_server_that_cannot_start_says_why_with_its_log(postgres: Postgres) -> None:
    with socket.create_server(("127.0.0.1", postgres.port)):
        process = postgres.program().start()
        with pytest.raises(PartFailed, match="postgres did not start: exit 1") as caught:
            postgres.wait(lambda: why_it_ended(process.wait(10)), time.sleep)
    assert any("Address already in use" in line for line in caught.value.tail)


def test_valkey_answers_only_under_its_password_and_keeps_its_data(valkey: Valkey) -> None:
    process = start(valkey)
    client = redis.Redis.from_url(valkey.url)
    client.set("kept", "7")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=valkey.port).ping()
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert stop(process, valkey) == 0
    again = start(valkey)
    assert redis.Redis.from_url(valkey.url).get("kept") == b"7"
    stop(again, valkey)


def test_a_valkey_that_was_left_behind_is_ended(valkey: Valkey) -> None:
    left = start(valkey)
    process = start(valkey)
    assert left.wait(5) == 0
    stop(process, valkey)


@pytest.mark.skipif(unprivileged.account() is None, reason="only root needs another place for PostgreSQL")
def test_as_root_data_that_nobody_can_reach_lives_elsewhere_and_a_removed_folder_frees_it(
    tmp_path: pathlib.Path,
) -> None:
    tmp_path.chmod(0o700)
    first = DataFolder(tmp_path / "data")
    first.make()
    server = Postgres(first, Claims().kept(first, "postgres"), throwaway=True)
    assert server.data.is_relative_to(unprivileged.ELSEWHERE)
    stop(start(server), server)
    assert not (first.path / "postgres").exists()
    (first.path / "secrets" / "folder_id").unlink()  # as if the data folder had been removed and made anew
    first.keep_secret("database_admin", "another")
    stop(start(server), server)
    assert server.data.with_name("postgres.old").exists()
    server.remove()
    assert not server.data.parent.exists()


@pytest.mark.skipif(unprivileged.account() is None, reason="a plain user reads its own wheels")
def test_as_root_programs_out_of_reach_are_copied_with_their_libraries(tmp_path: pathlib.Path) -> None:
    with data_folder() as folder:
        account = unprivileged.account()
        assert account
        hidden = unprivileged.wheel(unprivileged.PACKAGE)
        unprivileged._copy(hidden, folder.path / "copy")
        programs = folder.path / "copy" / unprivileged.PACKAGE / unprivileged.INSTALLATION / "bin"
        for name in ("postgres", "initdb"):
            assert unprivileged._runs([str(programs / name), "--version"], account)


def test_a_server_ends_with_the_process_that_started_it(folder: DataFolder) -> None:
    script = (
        "import sys, time\n"
        "from opspawn_site.fleet.folder import DataFolder\n"
        "from opspawn_site.fleet.ports import Claims\n"
        "from opspawn_site.fleet.valkey import Valkey\n"
        "folder = DataFolder(sys.argv[1]); server = Valkey(folder, Claims().kept(folder, 'redis'))\n"
        "process = server.program().start(); server.wait(lambda: None, time.sleep); print(process.pid, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder.path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid), 5)
