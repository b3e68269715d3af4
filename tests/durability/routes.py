"""Every route that writes, and what it has to have written before it answers."""

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
from tests.durability.acks import Answer
from tests.durability.traced import DATA, LINE, Client, Reply, Traced
from tests.journeys.service import BASE, MODEL

DATABASE: Final = "penstock.db"
JOB: Final = ("jobs", "jobs/req_*", "jobs/req_*/input.idx", "jobs/req_*/input.jsonl", DATABASE)
STATE: Final = ("uploads", "uploads/upl_*.json")
PIECE: Final = (*STATE, "uploads/upl_*.part")

LARGE: Final = f"{LINE}\n" * 12_000
"""Over a megabyte: its connection is handed over."""

SUBMIT: Final = f"{BASE}/requests"
UPLOADS: Final = f"{BASE}/uploads?model={MODEL}"
JSONL: Final = "application/jsonl"
PART: Final = "application/partial-upload"

Send = Callable[[Client, str], object]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One way to have something written."""

    title: str
    send: Send
    needs: tuple[str, ...] = JOB
    """What must have been written before the answer."""
    is_handed_over: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a route."""

    title: str
    answers: int
    touched: frozenset[str]
    faults: tuple[str, ...]
    """One sentence for each thing that an answer should not have come before."""


# -- submissions -------------------------------------------------------------------------------


def _submit(client: Client, name: str, kind: str, body: bytes, encoding: str = "") -> Reply:
    fields = {"Content_Type": kind} | ({"Content_Encoding": encoding} if encoding else {})
    query = "" if kind == "application/json" else f"?model={MODEL}"
    return client.send(name, "POST", SUBMIT + query, body, **fields)


def _in_json(**payload: str) -> bytes:
    payload = {"model": MODEL, **payload}
    return json.dumps({"model": "Gemini-batch-inference", "payload": payload}).encode()


def _json(client: Client, name: str) -> None:
    _submit(client, name, "application/json", _in_json(input_data=DATA))


def _base64(client: Client, name: str) -> None:
    data = base64.b64encode(DATA.encode()).decode()
    _submit(client, name, "application/json", _in_json(input_data=data))


def _jsonl(client: Client, name: str) -> None:
    _submit(client, name, JSONL, DATA.encode())


def _form(client: Client, name: str) -> None:
    head = 'Content-Disposition: form-data; name="file"; filename="x.jsonl"'
    body = f"--cut\r\n{head}\r\n\r\n{DATA}\r\n--cut--\r\n"
    _submit(client, name, "multipart/form-data; boundary=cut", body.encode())


def _gzip(client: Client, name: str) -> None:
    _submit(client, name, JSONL, gzip.compress(DATA.encode()), "gzip")


def _large(client: Client, name: str) -> None:
    _submit(client, name, JSONL, LARGE.encode())


def _large_json(client: Client, name: str) -> None:
    _submit(client, name, "application/json", _in_json(input_data=LARGE))


def _pulled(client: Client, name: str) -> None:
    _submit(client, name, "application/json", _in_json(input_uri=f"{client.source}x.jsonl"))


# -- uploads -----------------------------------------------------------------------------------


def _begin(client: Client, name: str, body: bytes = b"", complete: int = 0) -> Reply:
    return client.send(
        *(name, "POST", UPLOADS, body), Content_Type=JSONL, Upload_Complete=f"?{complete}"
    )


def _piece(
    client: Client, name: str, address: str, body: bytes, offset: int, complete: int
) -> Reply:
    return client.send(
        *(name, "PATCH", address, body),
        Content_Type=PART,
        Upload_Offset=str(offset),
        Upload_Complete=f"?{complete}",
    )


@contextmanager
def _upload(client: Client, name: str = "setup", body: bytes = b"") -> Iterator[str]:
    """Begin an upload, give its address, and remove it; there may not be many."""
    address = _begin(client, name, body).headers["location"]
    try:
        yield address
    finally:
        client.send("setup", "DELETE", address)


def _create(client: Client, name: str) -> None:
    with _upload(client, name):
        pass


def _create_with_piece(client: Client, name: str) -> None:
    with _upload(client, name, DATA.encode()):
        pass


def _append(client: Client, name: str) -> None:
    with _upload(client, body=DATA.encode()) as address:
        _piece(client, name, address, DATA.encode(), len(DATA), 0)


def _tell(client: Client, name: str) -> None:
    with _upload(client, body=DATA.encode()) as address:
        client.send(name, "HEAD", address)


def _finish(client: Client, name: str) -> None:
    with _upload(client, body=DATA.encode()) as address:
        _piece(client, name, address, DATA.encode(), len(DATA), 1)


def _finish_again(client: Client, name: str) -> None:
    with _upload(client, body=DATA.encode()) as address:
        for asked in ("setup", name):
            _piece(client, asked, address, b"", len(DATA), 1)


def _at_once(client: Client, name: str) -> None:
    address = _begin(client, name, DATA.encode(), 1).headers["location"]
    client.send("setup", "DELETE", address)


def _remove(client: Client, name: str) -> None:
    address = _begin(client, "setup", DATA.encode()).headers["location"]
    client.send(name, "DELETE", address)


# -- cancels and retries -----------------------------------------------------------------------


def _cancel(client: Client, name: str) -> None:
    client.send(name, "POST", f"{SUBMIT}/{client.submit('setup')}/cancel")


def _delete(client: Client, name: str) -> None:
    client.send(name, "DELETE", f"{SUBMIT}/{client.submit('setup')}")


def _retry(client: Client, name: str) -> None:
    client.send(name, "POST", f"{SUBMIT}/{client.ended.pop()}/retry?outcomes=error")


NEEDS_AN_END: Final = "retry"
"""No job ends on the server that is traced, so those that this one needs have ended before."""

_POST: Final = "POST /requests"
ROUTES: Final[Mapping[str, Route]] = MappingProxyType(
    {
        "json": Route(title=f"{_POST}, JSON", send=_json),
        "base64": Route(title=f"{_POST}, JSON with base64", send=_base64),
        "jsonl": Route(title=f"{_POST}, JSONL", send=_jsonl),
        "form": Route(title=f"{_POST}, multipart", send=_form),
        "gzip": Route(title=f"{_POST}, JSONL in gzip", send=_gzip),
        "large": Route(
            title=f"{_POST}, a MB of JSONL, handed over", send=_large, is_handed_over=True
        ),
        "large-json": Route(
            title=f"{_POST}, a MB in JSON, handed over", send=_large_json, is_handed_over=True
        ),
        "pulled": Route(title=f"{_POST}, `input_uri`", send=_pulled),
        "create": Route(title="POST /uploads", send=_create, needs=PIECE),
        "create-piece": Route(
            title="POST /uploads with a piece", send=_create_with_piece, needs=PIECE
        ),
        "at-once": Route(title="POST /uploads with all", send=_at_once, needs=(*JOB, *STATE)),
        "append": Route(title="PATCH /uploads/{id}, a piece", send=_append, needs=PIECE),
        "finish": Route(
            title="PATCH /uploads/{id}, the last piece", send=_finish, needs=(*JOB, *STATE)
        ),
        "finish-again": Route(
            title="PATCH /uploads/{id}, asked again", send=_finish_again, needs=()
        ),
        "tell": Route(title="HEAD /uploads/{id}", send=_tell, needs=()),
        "remove": Route(title="DELETE /uploads/{id}", send=_remove, needs=("uploads",)),
        "cancel": Route(title="POST /requests/{id}/cancel", send=_cancel, needs=(DATABASE,)),
        "delete": Route(title="DELETE /requests/{id}", send=_delete, needs=(DATABASE,)),
        NEEDS_AN_END: Route(title="POST /requests/{id}/retry", send=_retry, needs=(DATABASE,)),
    }
)


def serve(traced: Traced, names: Iterable[str], repeat: int) -> list[Row]:
    """Send every request so often, one after the other, and judge the answers."""
    names = tuple(names)
    if NEEDS_AN_END in names:
        traced.bring_to_an_end(repeat)
    with traced.serving() as client:
        for _ in range(repeat):
            for name in names:
                ROUTES[name].send(client, name)
    answers = traced.answers()
    return [judge(ROUTES[name], [one for one in answers if one.name == name]) for name in names]


def run_commands(traced: Traced, folder: Path, repeat: int) -> list[Row]:
    """Make and revoke keys beside the data of the server, and make them where nothing is yet."""
    made, revoked, first = [], [], []
    old = partial(_keys, traced, traced.root)
    for number in range(repeat):
        key, answers = old("create")
        made += answers
        revoked += old("revoke", key.split("_")[-3])[1]
        first += _keys(traced, folder / f"new-{number}", "create")[1]
    needs = (DATABASE,)
    return [
        judge(Route(title="penstock keys create", send=_nothing, needs=needs), made),
        judge(Route(title="penstock keys revoke", send=_nothing, needs=needs), revoked),
        judge(
            Route(
                title="penstock keys create, no data yet", send=_nothing, needs=("secret", DATABASE)
            ),
            first,
        ),
    ]


def _keys(traced: Traced, root: Path, *arguments: str) -> tuple[str, list[Answer]]:
    output, answers = traced.run(["keys", "--data-dir", str(root), *arguments], root)
    return output.strip(), answers


def _nothing(_client: Client, _name: str) -> None:
    """Send nothing: a command is no request."""


def judge(route: Route, answers: Iterable[Answer]) -> Row:
    """Say what of the answers to one route came too early."""
    given = list(answers)
    faults = [] if given else ["there was no answer"]
    for answer in given:
        if not answer.is_success:
            faults.append(f"{answer.status} was answered")
        faults += (f"{what} was not synced" for what in answer.unsynced)
        faults += (f"{what} was not written" for what in route.needs if what not in answer.touched)
        if route.is_handed_over and not answer.is_handed_over:
            faults.append("the connection was not handed over")
    return Row(
        title=route.title,
        answers=len(given),
        touched=frozenset(one for answer in given for one in answer.touched),
        faults=tuple(faults),
    )
