"""G1: addresses in `input_uri`, most of them like `gs://bucket/name`.

An address is accepted in one spelling and with one meaning. One that parses is pulled only if the
operator lists it; here the list has a folder and one object.

What a bucket then says of a name (absent, 403, changed while it is read, another generation,
empty, transcoded) is played against the emulator in tests/blobs and tests/api/test_sources.py.
"""

from typing import Final

import msgspec

from penstock.blobs.source_uri import AllowList, parse
from penstock.errors import Refused

ALLOWED: Final = ("gs://allowed/in/", "gs://allowed/one.jsonl")
BAD: Final = "invalid_input_uri"
ELSE: Final = "source_not_allowed"


class Name(msgspec.Struct, frozen=True):
    """An address and its verdict."""

    text: str
    verdict: str

    @property
    def id(self) -> str:
        """The name of the case."""
        return f"G1/{self.text[:60]} ({len(self.text)})"


NAMES: Final = (
    # In the list.
    Name("gs://allowed/in/a.jsonl", "ok"),
    Name("gs://allowed/in/deep/er/a.jsonl", "ok"),
    Name("gs://allowed/one.jsonl", "ok"),
    Name("gs://allowed/in/a b+c.jsonl", "ok"),
    Name("gs://allowed/in/\u00fc\U0001f600.jsonl", "ok"),
    Name("gs://allowed/in/100%.jsonl", "ok"),
    Name("gs://allowed/in/a?generation=7", "ok"),
    Name("gs://allowed/in/[x]*{y}.jsonl", "ok"),
    Name("gs://allowed/in/...", "ok"),
    Name("gs://allowed/in/.hidden", "ok"),
    Name("gs://allowed/in/a..b", "ok"),
    Name("gs://allowed/in/-rf", "ok"),
    Name("gs://allowed/in/" + "x" * 1_021, "ok"),
    # An escape is a character like any other in the name of an object, so this is no way out.
    Name("gs://allowed/in/%2e%2e/secret", "ok"),
    Name("gs://allowed/in/%2e%2e%2fsecret", "ok"),
    Name("gs://allowed/in/%252e%252e/secret", "ok"),
    # Addresses, but not in the list.
    Name("gs://allowed/", ELSE),
    Name("gs://allowed", ELSE),
    Name("gs://allowed/in", ELSE),
    Name("gs://allowed/inside/a", ELSE),
    Name("gs://allowed/IN/a", ELSE),
    Name("gs://allowed/one.jsonl.gz", ELSE),
    Name("gs://allowed/one.jsonl/x", ELSE),
    Name("gs://allowed/other/a", ELSE),
    Name("gs://allowed.example/in/a", ELSE),
    Name("gs://allowed-2/in/a", ELSE),
    Name("gs://another/in/a", ELSE),
    Name("gs://gcp-public-data-landsat/index.csv.gz", ELSE),
    Name("https://storage.googleapis.com/allowed/in/a", ELSE),
    Name("https://allowed/in/a", ELSE),
    Name("http://169.254.169.254/computeMetadata/v1/", ELSE),
    Name("http://metadata.google.internal/", ELSE),
    Name("http://127.0.0.1/", ELSE),
    Name("http://[::1]/", ELSE),
    # Ways out of a folder.
    Name("gs://allowed/in/../secret", BAD),
    Name("gs://allowed/in/..", BAD),
    Name("gs://allowed/in/.", BAD),
    Name("gs://allowed/in/./a", BAD),
    Name("gs://allowed/../other/a", BAD),
    Name("gs://allowed/in/..;x/secret", BAD),
    Name("gs://allowed/in//a", BAD),
    Name("gs://allowed//in/a", BAD),
    Name("gs://allowed/in/..\\secret", BAD),
    Name("gs://allowed\\in\\a", BAD),
    # Characters.
    Name("gs://allowed/in/a\n", BAD),
    Name("gs://allowed/in/a\r\nHost: x", BAD),
    Name("gs://allowed/in/a\x00.jsonl", BAD),
    Name("gs://allowed/in/\x1b[31m", BAD),
    Name("gs://allowed/in/a\x7f", BAD),
    Name("gs://allowed/in/\ud800", BAD),
    Name("gs://allowed/in/a#1700000000000000", BAD),
    Name("gs://allowed/in/" + "x" * 1_022, BAD),
    Name("gs://allowed/in/" + "\u00fc" * 511, BAD),
    Name("gs://allowed/in/" + "x" * 5_000, BAD),
    # Buckets.
    Name("gs://", BAD),
    Name("gs:///in/a", BAD),
    Name("gs://a/in", BAD),
    Name("gs://Allowed/in/a", BAD),
    Name("gs://allowed:443/in/a", BAD),
    Name("gs://user@allowed/in/a", BAD),
    Name("gs://user:word@allowed/in/a", BAD),
    Name("gs://allowed%2fin/a", BAD),
    Name("gs://allowed?x/in/a", BAD),
    Name("gs://.allowed/in/a", BAD),
    Name("gs://..", BAD),
    Name("gs://all owed/in/a", BAD),
    Name("gs://\u0430llowed/in/a", BAD),
    Name("gs://" + "b" * 300 + "/in/a", BAD),
    # Other schemes.
    Name("", BAD),
    Name("/etc/passwd", BAD),
    Name("allowed/in/a", BAD),
    Name("gs:allowed/in/a", BAD),
    Name("gs:/allowed/in/a", BAD),
    Name("GS://allowed/in/a", BAD),
    Name(" gs://allowed/in/a", BAD),
    Name("gs ://allowed/in/a", BAD),
    Name("gcs://allowed/in/a", BAD),
    Name("file:///etc/passwd", BAD),
    Name("file://allowed/in/a", BAD),
    Name("ftp://allowed/in/a", BAD),
    Name("s3://allowed/in/a", BAD),
    Name("data:text/plain,x", BAD),
    Name("javascript:alert(1)", BAD),
    Name("gopher://127.0.0.1:6379/_x", BAD),
    Name("https://user@allowed/in/a", BAD),
    Name("https://allowed/in/%2e%2e/a", BAD),
    Name("https://0x7f.1/", BAD),
)


def said_of(name: Name) -> str:
    """Return what is said of an address."""
    try:
        uri = parse(name.text)
        AllowList(ALLOWED).check(uri)
    except Refused as refusal:
        return refusal.error_code
    return "ok"
