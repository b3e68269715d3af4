"""Text of strangers never becomes a part of what it is put into: SQL, HTML, JSON, headers."""

import ast
import json
import re
import tokenize
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from tests.api.driver import BASE, Api, lines, permit, submission
from tests.api.test_browser_walls import snapshot

from penstock.api.reference_page import page

SOURCE = Path(__file__).resolve().parents[2] / "src" / "penstock"
EXECUTING = {"execute", "exec_driver_sql", "executemany", "executescript", "scalar", "scalars"}
SQL = {"text", "literal_column", "TextClause", "DDL"}
KNOWN = {
    # Names and values of settings of the connection, all of them written in the file itself.
    ("store/database.py", "cursor.execute"),
    ("store/postgres.py", "cursor.execute"),
    ("store/migrations/versions/0005_tenants.py", "op.execute"),
}
HOSTILE = (
    "' OR 1=1 --",
    "'; DROP TABLE jobs; --",
    '" OR ""="',
    "1); DELETE FROM keys; --",
    "%' UNION SELECT digest FROM keys --",
    "\\'; SELECT pg_sleep(10); --",
    "$1; $$; {0}; {{7*7}}; ${7*7}; %(id)s; :id; ?",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "a\u2028b\u2029c\u0085d",
    "*)(uid=*))(|(uid=*",
    "$(reboot)`reboot`|reboot&&reboot",
    "../../../../etc/passwd",
)


def built(call: ast.Call) -> bool:
    """Whether the first argument of a call is a text that is put together."""
    if not call.args:
        return False
    first = call.args[0]
    if isinstance(first, ast.Call):
        name = first.func.attr if isinstance(first.func, ast.Attribute) else ""
        return name in {"format", "join", "replace", "format_map"}
    is_sum = isinstance(first, ast.BinOp) and isinstance(first.op, (ast.Add, ast.Mod))
    return is_sum or isinstance(first, ast.JoinedStr)


def put_together(tree: ast.AST) -> set[str]:
    """The calls of a module that make SQL of a text that is put together."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func))
        in EXECUTING | SQL
        and built(node)
    }


def test_no_statement_is_put_together_from_texts() -> None:
    """SQLAlchemy's expressions bind every value; no SQL is a format, a sum or a join of texts."""
    found = set()
    files = [path for path in SOURCE.rglob("*.py") if "emulator" not in path.parts]
    for path in files:
        with tokenize.open(path) as file:
            tree = ast.parse(file.read())
        found |= {(str(path.relative_to(SOURCE)), name) for name in put_together(tree)}
    assert len(files) > 100
    assert found == KNOWN


@pytest.mark.parametrize(
    "program",
    [
        "c.execute(f'SELECT {x}')",
        "c.execute('SELECT %s' % x)",
        "c.execute('SELECT ' + x)",
        "c.exec_driver_sql('SELECT {}'.format(x))",
        "sa.text(f'a = {x}')",
        "text('a = ' + x)",
        "sa.literal_column(''.join(x))",
    ],
)
def test_the_search_finds_it(program: str) -> None:
    """Each way to put a statement together is noticed."""
    assert put_together(ast.parse(program)) != set()


def test_nothing_reads_xml() -> None:
    """No parser of XML is imported, so there are no entities to resolve."""
    parsers = re.compile(r"(?:import|from) +(?:xml|lxml|defusedxml|xmltodict|bs4|html5lib)\b")
    files = [path for path in SOURCE.rglob("*.py") if "emulator" not in path.parts]
    assert [path.name for path in files if parsers.search(path.read_text("utf-8"))] == []
    # The emulator writes XML as Cloud Storage does, and reads none.
    text = "".join(path.read_text("utf-8") for path in SOURCE.rglob("emulator/*.py"))
    assert {found[0] for found in re.finditer(r".*\bxml\..*", text) if "import" in found[0]} == {
        "from xml.sax.saxutils import escape"
    }


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
async def test_a_text_is_a_value_everywhere(api: Api, text: str) -> None:
    """In query, path, header and body it is refused or found nowhere; only the audit log grows."""
    key = await permit(api.store, "acme")
    before = await snapshot(api.store)
    in_a_path = quote(text, safe="")
    async with api.client(key) as client:
        answers = [
            *[
                await client.get(f"{BASE}/requests", params={name: text})
                for name in ("status", "model", "cursor", "limit", "offset")
            ],
            *[
                await client.get(f"{path}/{in_a_path}")
                for path in (f"{BASE}/requests", f"{BASE}/models", "/api/v1/keys", "/api/v1/orgs")
            ],
            *[
                await client.get(f"{BASE}/requests", headers={name.encode(): text.encode()})
                for name in ("X-Organization-ID", "Authorization", "If-None-Match", "Range")
            ],
            await client.post(f"{BASE}/requests", json=submission(text)),
            await client.post(f"{BASE}/requests", json={"payload": {"model": text}}),
            await client.post("/api/v1/users", json={"name": "x", "role": text}),
        ]
    for answer in answers:
        assert answer.status_code < 500, answer.text
        if answer.status_code == 200:
            assert answer.json().get("requests", []) == []
    after = await snapshot(api.store)
    assert {**after, "audit": []} == before


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
async def test_a_text_comes_back_as_it_was_stored(api: Api, text: str) -> None:
    """What a caller may name is stored and echoed as one JSON string, whatever is in it."""
    async with api.client(await permit(api.store, "acme")) as client:
        sent = await client.post(f"{BASE}/requests", json=submission(lines(1), note=text))
        assert sent.status_code == 200, sent.text
        found = await client.get(f"{BASE}/requests/{sent.json()['request_id']}")
    assert found.headers["content-type"] == "application/json"
    assert found.json()["payload"]["note"] == text
    assert json.loads(found.content) == found.json()


class Tags(HTMLParser):
    """The elements and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def hostile(value: object, text: str) -> object:
    """A document with a hostile text at the end of each of its texts."""
    if isinstance(value, dict):
        return {name: hostile(one, text) for name, one in value.items()}
    if isinstance(value, list):
        return [hostile(one, text) for one in value]
    # What a name is looked up by stays.
    is_shown = isinstance(value, str) and not value.startswith("#/")
    return f"{value} {text}" if is_shown else value


async def test_no_text_becomes_an_element_of_the_page(nobody: httpx2.AsyncClient) -> None:
    """With hostile texts wherever the document has one, the page has the elements it always has."""
    document = (await nobody.get("/openapi.json")).json()
    usual, attacked = Tags(), Tags()
    usual.feed(page(document))
    for text in HOSTILE:
        attacked.feed(page(hostile(document, text)))  # type: ignore[arg-type]  # a dict stays one
    assert attacked.names == usual.names
    assert attacked.attributes == usual.attributes
    assert attacked.names.isdisjoint({"script", "img", "iframe", "object", "form"})


async def test_no_text_becomes_a_header(acme: httpx2.AsyncClient) -> None:
    """A request id is echoed only if it is plain; nothing else of a request is in a head."""
    told = (b"X-Request-ID", b"X-Organization-ID", b"Idempotency-Key", b"Origin", b"User-Agent")
    for text in (*HOSTILE, "a\tb", "x" * 65):
        answer = await acme.get(f"{BASE}/models", headers={name: text.encode() for name in told})
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", answer.headers["x-request-id"])
        shown = " ".join(f"{name}: {value}" for name, value in answer.headers.items())
        assert text not in shown
