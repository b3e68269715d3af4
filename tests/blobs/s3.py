"""moto's S3 server, in a process and with packages of its own, over real HTTP on loopback."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

PACKAGES = Path(sys.prefix) / "s3"
"""Where `make` installs requirements/s3.txt: they do not go with those of the server."""

BUCKET = "penstock"

_PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_REGION": "eu-west-1",
}
"""What a client of it needs; obstore reads these as every client of S3 does."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server with one empty bucket, and yield its address."""
    if not PACKAGES.is_dir():
        raise AssertionError("requirements/s3.txt is not installed: run `make test` once.")
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={"PYTHONPATH": str(PACKAGES)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(process.stdout.readline())}"
            where = {"LocationConstraint": ENVIRONMENT["AWS_REGION"]}
            body = "".join(f"<{name}>{value}</{name}>" for name, value in where.items())
            httpx2.put(
                f"{url}/{BUCKET}",
                content=f"<CreateBucketConfiguration>{body}</CreateBucketConfiguration>",
            ).raise_for_status()
            yield url
        finally:
            process.kill()
