"""Database servers for one test run: Debian's own, on free ports, with data that goes with the run."""

import glob
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from rest import free_port

TIME = 60


class Server:
    """A server process and the address of an empty database in it."""

    def __init__(self, command, url: str, ready, log: Path, client: list[str]):
        self.url = url
        self.client = client
        self.process = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + TIME
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"{command[0]} did not come up:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def say(self, sql: str):
        """Has it carry out a statement, by its own client."""
        run(*self.client, sql)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=TIME)
            except subprocess.TimeoutExpired:
                self.process.kill()


def as_user(user: str, folder: Path) -> list[str]:
    """What to put before a command that must not run as root, with a folder it may use."""
    if os.geteuid() != 0:
        return []
    for place in [folder, *folder.parents]:
        if place.stat().st_mode & 0o005 != 0o005 and place != folder:
            place.chmod(place.stat().st_mode | 0o011)
    shutil.chown(folder, user)
    known = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={known.pw_uid}", f"--regid={known.pw_gid}", "--clear-groups", "--"]


def run(*command: str, **more) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME * 2, **more)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def postgres(folder: Path) -> Server:
    """PostgreSQL."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    binaries, port = found[-1], free_port()
    folder.mkdir()
    before = as_user("postgres", folder)
    data = folder / "data"
    run(*before, f"{binaries}/initdb", "-D", str(data), "-U", "sandlot", "-A", "trust", "-N", cwd=folder)
    command = [*before, f"{binaries}/postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]

    def ready():
        return subprocess.run([f"{binaries}/pg_isready", "-h", "127.0.0.1", "-p", str(port)], capture_output=True).returncode == 0

    server = Server(command, f"postgres://sandlot@127.0.0.1:{port}/sandbox", ready, folder / "log",
                    [f"{binaries}/psql", "-h", "127.0.0.1", "-p", str(port), "-U", "sandlot", "-v", "ON_ERROR_STOP=1", "sandbox", "-c"])
    run(f"{binaries}/createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "sandlot", "sandbox")
    return server


def mariadb(folder: Path) -> Server:
    """MariaDB."""
    daemon = shutil.which("mariadbd", path="/usr/sbin:/usr/bin")
    if daemon is None:
        pytest.skip("MariaDB is not installed: apt-get install mariadb-server-core")
    if shutil.which("my_print_defaults") is None:
        pytest.skip("MariaDB is not complete: apt-get install mariadb-client-core")
    port = free_port()
    folder.mkdir()
    before = as_user("nobody", folder)
    data = folder / "data"
    run(*before, "mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--tmpdir={folder}",
        "--auth-root-authentication-method=normal", "--skip-test-db", cwd=folder)
    start = folder / "start.sql"
    start.write_text("CREATE DATABASE IF NOT EXISTS sandbox CHARACTER SET utf8mb4;\n"
                     "CREATE USER IF NOT EXISTS 'sandlot'@'127.0.0.1' IDENTIFIED BY 'p@ss';\n"
                     "GRANT ALL ON sandbox.* TO 'sandlot'@'127.0.0.1';\n")
    command = [*before, daemon, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket",
               f"--pid-file={folder}/pid", f"--init-file={start}", "--skip-name-resolve", "--innodb-buffer-pool-size=32M",
               f"--tmpdir={folder}"]

    def ready():
        return "ready for connections" in (folder / "log").read_text(errors="replace")

    return Server(command, f"mysql://sandlot:p%40ss@127.0.0.1:{port}/sandbox", ready, folder / "log",
                  ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(port), "-u", "sandlot", "-pp@ss", "sandbox", "-e"])
