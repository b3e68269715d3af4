import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route
from tests.api.driver import BASE, COUNTS, Api, ended, lines, submission

from penstock import __version__
from penstock.core.job import Job
from penstock.core.models import SEED_CATALOGUE

MakeJob = Callable[..., Job]
Json = dict[str, Any]
UNLISTED = {"/openapi.json", "/docs", "/docs/style.css"}


@pytest.fixture
async def document(nobody: httpx2.AsyncClient) -> Json:
    """The document as it is served."""
    answer = await nobody.get("/openapi.json")
    assert answer.status_code == 200
    found: Json = answer.json()
    return found


def test_both_bases_have_the_same_routes(api: Api) -> None:
    """The base without `apikey` has the same routes as the one with it."""
    routes = [(r.path, sorted(r.methods or ())) for r in api.app.routes if isinstance(r, Route)]
    long = {(path, *methods) for path, methods in routes if path.startswith(BASE)}
    short = {
        (path.replace("/requestqueue/", "/requestqueue/apikey/"), *methods)
        for path, methods in routes
        if re.match(r"/api/v1/ie/requestqueue/(requests|models|uploads)", path)
    }
    assert long == short


def test_the_document_is_openapi(document: Json) -> None:
    """The document is valid by the 3.1 meta-schema, and every reference leads somewhere."""
    validate(document)


def test_the_document_and_the_app_have_the_same_routes(document: Json, api: Api) -> None:
    """No route is undocumented, and nothing is documented that is not there."""
    served = {
        (method.lower(), route.path)
        for route in api.app.routes
        if isinstance(route, Route) and route.path not in UNLISTED
        for method in route.methods or ()
        if method != "HEAD" and not re.match(r"/api/v1/ie/requestqueue/(re|mo|up)", route.path)
    }
    described = {
        (method, path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described == served


def test_operations_have_names(document: Json) -> None:
    """Each operation has an id of its own, because client generators name functions by it."""
    names = [
        item[method]["operationId"]
        for item in document["paths"].values()
        for method in item
        if method != "parameters"
    ]
    assert len(set(names)) == len(names)


def test_the_document_tells_this_servers_models(document: Json) -> None:
    """Version, models and limits are those of the running server."""
    assert document["info"]["version"] == __version__
    described = document["paths"][f"{BASE}/requests"]["post"]["description"]
    assert all(name in described for name in SEED_CATALOGUE)
    assert "200000 requests" in described


async def test_the_described_bodies_are_taken(document: Json, acme: httpx2.AsyncClient) -> None:
    """The example of every form of a body is accepted as it stands."""
    contents = document["paths"][f"{BASE}/requests"]["post"]["requestBody"]["content"]
    assert len(contents) == 3
    for kind, content in contents.items():
        example = content["example"]
        if kind == "application/json":
            answer = await acme.post(f"{BASE}/requests", json=example)
        elif kind == "multipart/form-data":
            file = example.pop("file").encode()
            answer = await acme.post(f"{BASE}/requests", data=example, files={"file": file})
        else:
            headers = {"Content-Type": kind}
            answer = await acme.post(f"{BASE}/requests", content=example, headers=headers)
        assert answer.status_code == 200, answer.text


async def test_answers_have_the_described_members(
    document: Json, acme: httpx2.AsyncClient, api: Api, new_job: MakeJob
) -> None:
    """A real record and a real outcome hold what their schemas require."""
    schemas = document["components"]["schemas"]
    fresh = (await acme.post(f"{BASE}/requests", json=submission(lines(1)))).json()
    job_id = await ended(api, new_job(), output=b"x", counts=COUNTS)
    done = (await acme.get(f"{BASE}/requests/{job_id}")).json()
    for record in (fresh, done):
        assert set(schemas["Record"]["required"]) <= set(record)
        assert set(record) <= set(schemas["Record"]["properties"])


async def test_errors_have_the_described_members(
    document: Json, nobody: httpx2.AsyncClient
) -> None:
    """A real refusal holds what the schema requires."""
    schema = document["components"]["schemas"]["Error"]
    error = (await nobody.get(f"{BASE}/requests")).json()
    assert set(schema["required"]) <= set(error) <= set(schema["properties"])


class Sources(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [str(v) for n, v in attrs if n in {"src", "href", "srcset", "action"}]


async def test_the_page_loads_nothing_from_elsewhere(nobody: httpx2.AsyncClient) -> None:
    """The reference works without the internet, and runs no script."""
    answer = await nobody.get("/docs")
    page = Sources()
    page.feed(answer.text)
    assert page.addresses
    assert all(re.match(r"/[a-z]", address) for address in page.addresses)
    assert not page.tags & {"script", "iframe", "img"}
    assert "script-src" not in answer.headers["content-security-policy"]
    for address in page.addresses:
        assert (await nobody.get(address)).status_code == 200
    assert "url(" not in (await nobody.get("/docs/style.css")).text


async def test_the_page_shows_every_operation(nobody: httpx2.AsyncClient, document: Json) -> None:
    """What the document describes stands on the page."""
    page = (await nobody.get("/docs")).text
    assert all(path in page for path in document["paths"])
