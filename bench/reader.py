"""Download a URL some times and drop the bytes; print a JSON line with bytes and seconds of each.

A script of its own with next to no imports, so that its start costs the measured server nothing.
"""

import json
import socket
import sys
import time
from typing import Final

READ_BYTES: Final = 256 * 1024
SECONDS_MAX: Final = 300.0


def read(host: str, target: str, encoding: str, bytes_per_second: float) -> tuple[int, float]:
    """Return how many bytes came, head included, and the seconds; RuntimeError unless it is 200."""
    name, _, port = host.rpartition(":")
    head = (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\n"
        f"Accept-Encoding: {encoding}\r\nConnection: close\r\n\r\n"
    )
    buffer = bytearray(READ_BYTES)
    begun = time.perf_counter()
    with socket.create_connection((name, int(port)), timeout=SECONDS_MAX) as connection:
        connection.sendall(head.encode())
        size = connection.recv_into(buffer)
        if not buffer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {bytes(buffer[:size])!r}")
        while got := connection.recv_into(buffer):
            size += got
            early = size / bytes_per_second - (time.perf_counter() - begun)
            if early > 0:
                time.sleep(early)
    return size, time.perf_counter() - begun


def main() -> None:
    """URL, encoding, times and bytes a second (`inf` for all that come) are the arguments."""
    url, encoding, times, rate = sys.argv[1:]
    host, slash, target = url.removeprefix("http://").partition("/")
    found = [read(host, slash + target, encoding, float(rate)) for _ in range(int(times))]
    print(json.dumps([{"bytes": size, "seconds": seconds} for size, seconds in found]))


if __name__ == "__main__":
    main()
