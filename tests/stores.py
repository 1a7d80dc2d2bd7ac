"""An S3 server for one test run: s3s-fs, on a free port, with a folder that goes with the run."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from rest import free_port

TIME = 60
KEY, SECRET = "sandlot-test", "a-secret-of-the-test"


class Store:
    """A store that can be stopped and started again at the same address."""

    def __init__(self, folder: Path):
        self.program = os.environ.get("S3_SERVER") or shutil.which("s3s-fs")
        if self.program is None:
            pytest.skip("no S3 server is installed: cargo install s3s-fs --features binary")
        self.folder = folder / "buckets"
        self.folder.mkdir(parents=True)
        self.log = folder / "log"
        self.port = free_port()
        self.process = None
        self.start()

    @property
    def variables(self) -> dict[str, str]:
        """What a gateway is told of it."""
        return {
            "S3_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "S3_ACCESS_KEY_ID": KEY, "S3_SECRET_ACCESS_KEY": SECRET,
            "S3_BUCKET": "sandbox-workspace", "S3_REGION": "us-east-1",
        }

    def start(self):
        command = [self.program, "--host", "127.0.0.1", "--port", str(self.port), "--access-key", KEY, "--secret-key", SECRET, str(self.folder)]
        self.process = subprocess.Popen(command, stdout=self.log.open("ab"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + TIME
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
