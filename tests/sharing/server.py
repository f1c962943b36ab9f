"""A real S3 server (SeaweedFS) on loopback, with keys made up for it."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.patience import PATIENCE, until

BUCKET = "shared"
WEED = Path(sys.executable).with_name("weed")


@dataclass
class Server:
    """A SeaweedFS S3 server on loopback; `keys` by name of the identity."""

    folder: Path
    ports: list[int]
    keys: dict[str, dict[str, str]]
    process: subprocess.Popen | None = field(default=None)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def start(self) -> None:
        """Start and wait until an authenticated request is answered."""
        s3, *others = map(str, self.ports)
        command = [str(WEED), f"-logdir={self.folder}", "server", f"-dir={self.folder / 'data'}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={s3}"]
        names = ("-master.port", "-master.port.grpc", "-volume.port", "-volume.port.grpc",
                 "-filer.port", "-filer.port.grpc", "-s3.port.grpc")  # fmt: skip
        command += [f"{name}={port}" for name, port in zip(names, others, strict=True)]
        command += [f"-s3.config={self.folder / 's3.json'}", "-s3.iam=false", "-metricsPort=0"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=100"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        with (self.folder / "weed.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        process = self.process
        until(lambda: process.poll() is not None or self._answers(), "the server's answer")
        if process.poll() is not None:
            raise RuntimeError((self.folder / "weed.log").read_text()[-2000:])

    def written(self) -> int:
        """Bytes in its folder."""
        return sum(file.stat().st_size for file in (self.folder / "data").rglob("*.dat"))

    def _answers(self) -> bool:
        """Whether a bucket can be made and written to."""
        try:
            socket.create_connection(("127.0.0.1", self.ports[0]), 1).close()
            filesystem = self.filesystem("lab")
            if not filesystem.exists(BUCKET):
                filesystem.mkdir(BUCKET)
            filesystem.pipe_file(f"{BUCKET}/.ready", b"yes")
            filesystem.rm_file(f"{BUCKET}/.ready")
        except OSError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server that was started here."""
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait(PATIENCE)
            self.process = None

    def filesystem(self, who: str) -> Any:
        """A fresh connection under somebody's keys."""
        import fsspec

        keys = self.keys[who]
        return fsspec.filesystem(
            "s3",
            key=keys["AWS_ACCESS_KEY_ID"],
            secret=keys["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self.endpoint,
            skip_instance_cache=True,
            config_kwargs={"retries": {"max_attempts": 1}, "connect_timeout": 2},
        )


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """A server in an empty folder, with two identities: lab reads and writes, guest only reads."""
    (folder / "data").mkdir()
    keys = {
        who: {
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        }
        for who in ("lab", "guest")
    }
    rights = {
        "lab": ["Admin", "Read", "Write", "List", "Tagging"],
        "guest": [f"Read:{BUCKET}", f"List:{BUCKET}"],
    }
    identities = [
        {
            "name": who,
            "credentials": [
                {
                    "accessKey": keys[who]["AWS_ACCESS_KEY_ID"],
                    "secretKey": keys[who]["AWS_SECRET_ACCESS_KEY"],
                }
            ],
            "actions": rights[who],
        }
        for who in keys
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}), encoding="utf-8")
    running = Server(folder, free_ports(8), keys)
    running.start()
    try:
        yield running
    finally:
        running.stop(signal.SIGKILL)  # what it holds is thrown away


class keys_in:
    """Credentials in the environment of whatever is started inside."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __enter__(self) -> None:
        self.before = dict(os.environ)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        # Away from the network: no proxy on the way to the server, no cloud that gives keys.
        os.environ.update(no_proxy="127.0.0.1", AWS_EC2_METADATA_DISABLED="true")
        os.environ.update(self.environment)

    def __exit__(self, *_: object) -> None:
        os.environ.clear()
        os.environ.update(self.before)
