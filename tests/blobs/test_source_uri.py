import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.blobs.source_uri import AllowList, parse
from penstock.core.uri import SourceUri
from penstock.errors import ConfigurationError, Forbidden, InvalidRequest

GOOD = [
    ("gs://bucket/name", SourceUri(scheme="gs", host="bucket", port=0, path="/name")),
    (
        "gs://b-1.x/a b+c%/ü?*.gz",
        SourceUri(scheme="gs", host="b-1.x", port=0, path="/a b+c%/ü?*.gz"),
    ),
    ("gs://bucket", SourceUri(scheme="gs", host="bucket", port=0, path="/")),
    ("https://h", SourceUri(scheme="https", host="h", port=443, path="/")),
    (
        "HTTPS://Host.Example:443/A",
        SourceUri(scheme="https", host="host.example", port=443, path="/A"),
    ),
    (
        "https://h:8443/a%2c%C3%bc",
        SourceUri(scheme="https", host="h", port=8443, path="/a%2C%C3%BC"),
    ),
    ("http://127.0.0.1:80/", SourceUri(scheme="http", host="127.0.0.1", port=80, path="/")),
    ("https://[::0001]/x", SourceUri(scheme="https", host="::1", port=443, path="/x")),
    (
        "https://xn--bcher-kva.example/a;b/c=@:!?X-Sig=%2F..&y=/?",
        SourceUri(
            scheme="https",
            host="xn--bcher-kva.example",
            port=443,
            path="/a;b/c=@:!",
            query="X-Sig=%2F..&y=/?",
        ),
    ),
]

BAD = [
    "",
    "/etc/passwd",
    "file:///etc/passwd",
    "ftp://h/x",
    "s3://bucket/x",
    "gs:/bucket/x",
    "GS://bucket/x",
    "gs://",
    "gs://B/x",
    "gs://bucket:80/x",
    "gs://user@bucket/x",
    "gs://bucket/a#1",
    "gs://bucket/../x",
    "gs://bucket/a/./b",
    "gs://bucket//a",
    "gs://bucket/a\\b",
    "gs://bucket/a\nb",
    "gs://bucket/\ud800",
    "gs://bucket/" + "ü" * 513,
    "https:/h/x",
    "https://",
    "https:///x",
    "https://user@h/x",
    "https://user:pw@h/x",
    "https://h@evil/x",
    "https://h\\@evil/x",
    "https://h/x#f",
    "https://h/../x",
    "https://h/a/..",
    "https://h/a/..;/b",
    "https://h/./x",
    "https://h//x",
    "https://h/%2e%2e/x",
    "https://h/%2E./x",
    "https://h/a%2fb",
    "https://h/a%5cb",
    "https://h/a%00b",
    "https://h/a%0d%0ab",
    "https://h/a%7f",
    "https://h/a%25b",
    "https://h/%61",
    "https://h/%zz",
    "https://h/%",
    "https://h/a b",
    "https://h/ü",
    "https://h/x?a b",
    "https://h/x?%0",
    "https://h/x\r\nHost: evil",
    "https://h /x",
    " https://h/x",
    "https://h/x\x7f",
    "https://h:/x",
    "https://h:0/x",
    "https://h:65536/x",
    "https://h:8x/x",
    "https://h.:443/x",
    "https://.h/x",
    "https://-h/x",
    "https://a_b/x",
    "https://bücher.example/x",
    "https://①②⑦.⓪.⓪.①/x",
    "https://127.1/x",
    "https://0x7f.1/x",
    "https://2130706433/x",
    "https://0177.0.0.1/x",
    "https://127.0.0.01/x",
    "https://1.2.3.4.5/x",
    "https://a.0x/x",
    "https://[::1/x",
    "https://[::1]x/x",
    "https://[fe80::1%25eth0]/x",
    "https://[::1%eth0]/x",
    "https://[1.2.3.4]/x",
    "https://" + "a" * 64 + "/x",
    "https://h/" + "a" * 4_096,
]


@pytest.mark.parametrize(("text", "uri"), GOOD)
def test_an_address_has_one_spelling(text: str, uri: SourceUri) -> None:
    """Scheme, host and escapes are written in one way, and the default port is told."""
    assert parse(text) == uri


@pytest.mark.parametrize("text", BAD)
def test_what_can_be_read_in_two_ways_is_refused(text: str) -> None:
    """Whatever two programs might understand differently is no address here."""
    with pytest.raises(InvalidRequest, match="`input_uri` is not accepted") as caught:
        parse(text)
    assert caught.value.error_code == "invalid_input_uri"
    assert caught.value.hint


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No text ends in another error, whatever scheme is before it."""
    for scheme in ("", "gs://bucket/", "https://", "https://h/", "https://h/?", "http://["):
        try:
            uri = parse(scheme + text)
        except InvalidRequest:
            continue
        assert parse(uri.shown + (f"?{uri.query}" if uri.query else "")) == uri


def test_a_signature_is_not_shown() -> None:
    """Messages and records have the address without its query."""
    assert parse("https://H:444/x?Signature=secret").shown == "https://h:444/x"
    assert parse("https://[::1]/x?y").shown == "https://[::1]/x"


ALLOWED = AllowList(
    [
        "gs://bucket/in/",
        "gs://whole",
        "https://files.example/data/",
        "https://files.example:8443/one.jsonl",
        "http://127.0.0.1:9000/",
    ]
)


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/in/a.jsonl",
        "gs://bucket/in/a/b",
        "gs://whole/x",
        "https://FILES.example/data/x.jsonl?sig=1",
        "https://files.example:443/data/a/b.gz",
        "https://files.example:8443/one.jsonl",
        "http://127.0.0.1:9000/x",
    ],
)
def test_what_is_listed_is_allowed(text: str) -> None:
    """A prefix with a slash allows what is below it, another one itself."""
    ALLOWED.check(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "gs://bucket/into",
        "gs://bucket/in",
        "gs://bucket/other/in/x",
        "gs://whole2/x",
        "https://whole/x",
        "http://files.example/data/x",
        "https://files.example/database",
        "https://files.example/other",
        "https://files.example:444/data/x",
        "https://evil.files.example/data/x",
        "https://files.example.evil/data/x",
        "https://files.example:8443/one.jsonl.bak",
        "https://files.example:8443/one.jsonl/x",
        "http://127.0.0.1/x",
        "http://127.0.0.2:9000/x",
        "https://127.0.0.1:9000/x",
        "http://localhost:9000/x",
        "http://[::ffff:127.0.0.1]:9000/x",
    ],
)
def test_nothing_else_is(text: str) -> None:
    """Another scheme, host, port or folder is refused, naming the setting and what is allowed."""
    with pytest.raises(Forbidden, match="does not pull from") as caught:
        ALLOWED.check(parse(text))
    assert caught.value.error_code == "source_not_allowed"
    hint = str(caught.value.hint)
    assert "PENSTOCK_SOURCES_ALLOWED" in hint
    assert "gs://bucket/in/" in hint


def test_without_a_list_nothing_is_allowed() -> None:
    """The default pulls from nowhere and says which setting would change that."""
    with pytest.raises(Forbidden) as caught:
        AllowList(()).check(parse("gs://bucket/x"))
    assert "Allowed are: none" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("*", "sources_allowed has '\\*'"),
        ("gs://bucket/../", "segment of dots"),
        ("https://h/x?y", "with a query"),
        ("http://files.example/", "anybody on the way"),
        ("http://localhost/", "anybody on the way"),
        ("http://10.0.0.1/", "anybody on the way"),
        ("gs://own/", "inputs and outputs of all jobs"),
        ("gs://own/penstock/", "inputs and outputs of all jobs"),
        ("gs://own/penstock/req_1/", "inputs and outputs of all jobs"),
        ("gs://blobs/", "inputs and outputs of all jobs in gs://blobs/jobs/"),
    ],
)
def test_a_wrong_entry_stops_the_start(entry: str, why: str) -> None:
    """An entry that is no address, not safe, or opens one of the server's own folders is named."""
    with pytest.raises(ConfigurationError, match=why):
        AllowList([entry], private=["gs://own/penstock/", "gs://blobs/jobs/"])


def test_a_neighbour_of_our_own_folder_may_be_listed() -> None:
    """One bucket may hold both, in folders beside each other."""
    AllowList(["gs://own/inputs/", "gs://other/"], private=["gs://own/penstock/"])
