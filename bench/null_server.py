"""Two servers to measure against: what the machine can do, and what a beginner writes.

`null` receives, hashes, writes and fsyncs the body and parses nothing: the limit of this machine
for any upload. `naive` does what a first version does: `await request.json()`, then one
`json.loads` a line. Prints `url: …` once it listens.
"""

import asyncio
import base64
import hashlib
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

FOLDER = Path(sys.argv[2])


async def null(request: Request) -> Response:
    """Receive, hash, write, fsync."""
    digest = hashlib.sha256()
    size = 0
    # A new file each time, as any store of uploads has: fresh pages of the page cache cost more
    # than those that a file just gave back.
    with tempfile.NamedTemporaryFile(dir=FOLDER, buffering=0, delete=False) as file:
        async for chunk in request.stream():
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
        await asyncio.to_thread(os.fsync, file.fileno())
    return JSONResponse({"bytes": size, "sha256": digest.hexdigest()})


async def naive(request: Request) -> Response:
    """Hold everything, parse everything, then write."""
    text = (await request.json())["payload"]["input_data"]
    if not text.startswith("{"):
        text = base64.b64decode(text).decode()
    lines = 0
    for line in text.splitlines():
        if not json.loads(line)["request"]["contents"]:
            raise ValueError("no contents")
        lines += 1
    data = text.encode()
    with (FOLDER / "naive").open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return JSONResponse({"lines": lines, "sha256": hashlib.sha256(data).hexdigest()})


def main() -> None:
    """Serve one of the two on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = {"null": null, "naive": naive}[sys.argv[1]]
    app = Starlette(routes=[Route("/{rest:path}", endpoint, methods=["POST"])])
    print(f"url: http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(
        uvicorn.Config(app, http="httptools", loop="asyncio", access_log=False, log_level="error")
    ).run(sockets=[listener])


if __name__ == "__main__":
    main()
