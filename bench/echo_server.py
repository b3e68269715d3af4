"""A server that answers 200 at once, whatever is asked: the floor of every latency on this machine.

Its answer to a caller takes 0.1 ms idle. What it takes while uploads run, into another server, is
what the machine adds: the callers, the senders and the receivers wait for the same cores.
"""

import asyncio
from typing import Final

_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError("not a stream")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        # The caller's requests are short and come one at a time, so each read is a whole one.
        del data
        self._transport.write(_ANSWER)


async def main() -> None:
    """Serve until killed, after saying where."""
    server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"url: http://127.0.0.1:{port}\nkey: none", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
