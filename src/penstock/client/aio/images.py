"""Asks where the pictures of a job are."""

from penstock.client.aio.wire import Wire
from penstock.client.images import ImagePlace, linked, places_in
from penstock.client.splitting import Splitter


async def places_of(wire: Wire, output_url: str) -> list[ImagePlace]:
    """Return where the pictures of an output are; it is read once, a line at a time."""
    found: list[ImagePlace] = []
    splitter = Splitter()
    number = 0
    async with wire.stream(linked(output_url), {"Accept-Encoding": "identity"}) as answer:
        async for piece in answer.aiter_raw():
            for line in splitter.feed(piece):
                number += 1
                found += places_in(line, number)
    for line in splitter.rest():
        found += places_in(line, number + 1)
    return found
