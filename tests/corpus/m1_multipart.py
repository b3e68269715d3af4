"""M1: forms with a file, by RFC 7578 and RFC 2046, and the shapes of python-multipart's advisories.

One part is the input (`file`, or `input_data`), the others are small fields, each once. What two
programs might read differently is refused: extended names (`name*`), a part without a name, a
second input, an encoding of a part. A preamble has no text but line ends; an epilogue counts as
envelope.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from tests.corpus.case import GOOD, Bytes, Case

from penstock.core.limits import Limits

INVALID: Final = "invalid_multipart"
PARTS_MAX: Final = 64
HEADERS_MAX: Final = 8
TYPE: Final = "multipart/form-data; boundary=cut"
END: Final = b"--cut--\r\n"
MODEL: Final = b"gemini-3-flash-preview"


def part(disposition: str, data: bytes = GOOD, *headers: str, boundary: bytes = b"cut") -> bytes:
    """One part with the delimiter in front of it."""
    lines = [f"Content-Disposition: {disposition}", *headers]
    head = "".join(f"{line}\r\n" for line in lines).encode()
    return b"--" + boundary + b"\r\n" + head + b"\r\n" + data + b"\r\n"


def named(name: str, data: bytes = b"x") -> bytes:
    """A field."""
    return part(f'form-data; name="{name}"', data)


FILE: Final = part('form-data; name="file"; filename="a.jsonl"')
BODY: Final = FILE + END

RIGHT: Final[dict[str, Bytes]] = {
    "one file": BODY,
    "no line end behind": FILE + b"--cut--",
    "a file without a name": part('form-data; name="file"') + END,
    "input_data": named("input_data", GOOD) + END,
    "a name without quotes": part("form-data; name=file") + END,
    "a type": part('form-data; name="file"', GOOD, "Content-Type: application/jsonl") + END,
    "headers in capitals": BODY.replace(b"Content-Disposition", b"CONTENT-DISPOSITION"),
    "headers in small letters": BODY.replace(b"Content-Disposition", b"content-disposition"),
    "no blank behind the colon": BODY.replace(b"Disposition: ", b"Disposition:"),
    "a model in front": named("model", MODEL) + BODY,
    "a model behind": FILE + named("model", MODEL) + END,
    "an empty field": named("note", b"") + BODY,
    "a field of emojis": named("note", "😀".encode()) + BODY,
    "a boundary inside a line": named("file", GOOD.replace(b"hi", b"--cut--")) + END,
    "line ends in front": b"\r\n\r\n" + BODY,
    "an epilogue of two line ends": BODY + b"\r\n\r\n",
    "binary": part('form-data; name="file"', GOOD, "Content-Transfer-Encoding: binary") + END,
    "8bit": part('form-data; name="file"', GOOD, "content-transfer-encoding: 8BIT") + END,
    "as many parts as allowed": b"".join(named(f"f{n}") for n in range(PARTS_MAX - 1)) + BODY,
    "as many headers as allowed": part(
        'form-data; name="file"', GOOD, *(f"X{n}: 1" for n in range(HEADERS_MAX - 1))
    )
    + END,
}

FILE_NAMES: Final = (
    "../../etc/passwd",
    "/etc/passwd",
    "..\\\\..\\\\x",
    "C:\\\\x",
    "\\\\\\\\host\\\\x",
    "a;b=c",
    'a\\"b',
    "%00",
    "\u202egnp.exe",
    "x" * 2_000,
    "",
    ".",
    "CON",
)
"""Nobody looks at the name of the file, so that nothing can be written by it."""

WRONG: Final[dict[str, tuple[Bytes, str]]] = {
    "nothing": (b"", "truncated_body"),
    "text": (b"hello", INVALID),
    "JSONL": (GOOD, INVALID),
    "the end only": (END, "missing_input_data"),
    "no input": (named("model") + END, "missing_input_data"),
    "an empty input": (named("file", b"") + END, "empty_input"),
    "no end": (FILE, "truncated_body"),
    "half of an end": (FILE + b"--cut-", "truncated_body"),
    "cut in a header": (FILE[:30], "truncated_body"),
    "cut in the file": (FILE[:-30], "truncated_body"),
    "another boundary": (BODY.replace(b"--cut", b"--gut"), INVALID),
    "the boundary with more behind": (BODY.replace(b"--cut\r\n", b"--cutter\r\n", 1), INVALID),
    "LF instead of CRLF": (BODY.replace(b"\r\n", b"\n"), INVALID),
    "CR instead of CRLF": (BODY.replace(b"\r\n", b"\r"), INVALID),
    "blanks behind the boundary": (BODY.replace(b"--cut\r\n", b"--cut \t\r\n", 1), INVALID),
    "two files": (FILE + FILE + END, "ambiguous_input"),
    "file and input_data": (FILE + named("input_data", GOOD) + END, "ambiguous_input"),
    "two input_data": (named("input_data", GOOD) * 2 + END, "ambiguous_input"),
    "two models": (named("model") * 2 + BODY, "duplicate_member"),
    "two fields of one name": (named("a") + FILE + named("a") + END, "duplicate_member"),
    "another file": (part('form-data; name="data"; filename="a"') + END, "unknown_file_part"),
    "a file and another": (
        FILE + part('form-data; name="b"; filename="b"') + END,
        "unknown_file_part",
    ),
    "a file part with an empty name": (
        part('form-data; name="b"; filename=""') + BODY,
        "unknown_file_part",
    ),
    "no headers": (b"--cut\r\n\r\n" + GOOD + b"\r\n" + END, INVALID),
    "no disposition": (b"--cut\r\nContent-Type: a/b\r\n\r\n" + GOOD + b"\r\n" + END, INVALID),
    "no name": (part("form-data") + END, INVALID),
    "an attachment": (part('attachment; name="file"') + END, INVALID),
    "an empty disposition": (part("") + END, INVALID),
    "name only": (part('name="file"') + END, INVALID),
    "Name in capitals is a name": (part('form-data; NAME="note"') + BODY, "ok:1"),
    "an extended name": (part("form-data; name*=utf-8''file") + END, INVALID),
    "a continued name": (part('form-data; name*0="fi"; name*1="le"') + END, INVALID),
    "two dispositions": (
        part('form-data; name="file"', GOOD, 'Content-Disposition: form-data; name="a"') + END,
        INVALID,
    ),
    "a header twice": (part('form-data; name="file"', GOOD, "X: 1", "x: 2") + END, INVALID),
    "a header without a colon": (part('form-data; name="file"', GOOD, "no colon") + END, INVALID),
    "a header without a name": (part('form-data; name="file"', GOOD, ": x") + END, INVALID),
    "a blank before the colon": (part('form-data; name="file"', GOOD, "X : 1") + END, INVALID),
    "a folded header": (part('form-data; name="file"', GOOD, "X: 1\r\n 2") + END, INVALID),
    "NUL in a header name": (part('form-data; name="file"', GOOD, "X\x00: 1") + END, INVALID),
    "base64": (
        part('form-data; name="file"', GOOD, "Content-Transfer-Encoding: base64") + END,
        INVALID,
    ),
    "quoted-printable": (
        part('form-data; name="file"', GOOD, "Content-Transfer-Encoding: quoted-printable") + END,
        INVALID,
    ),
    "a part of its own encoding": (
        part('form-data; name="file"', GOOD, "Content-Transfer-Encoding: x-gzip") + END,
        INVALID,
    ),
    "a name that is no UTF-8": (BODY.replace(b'"file"', b'"f\xff"'), "invalid_utf8"),
    "a field that is no UTF-8": (named("a", b"\xff") + BODY, "invalid_utf8"),
    "a field's name that is no UTF-8": (
        named("a").replace(b'"a"', b'"\xff"') + BODY,
        "invalid_utf8",
    ),
    "a nested form": (
        part('form-data; name="file"', b"--in\r\n\r\n" + GOOD + b"\r\n--in--") + END,
        "not_json@1,not_json@4",
    ),
    "a mixed part": (
        part('form-data; name="file"', GOOD, "Content-Type: multipart/mixed; boundary=in") + END,
        "ok:1",
    ),
    "an array": (named("file", b"[" + GOOD + b"]") + END, "json_array_file@1"),
    "a compressed file": (named("file", b"\x1f\x8b\x08") + END, "compressed_input@1"),
    "base64 as a file": (named("file", b"eyJyZXF1ZXN0Ijp7fX0=") + END, "not_json@1"),
    "bad base64": (named("input_data", b"QUJ") + END, "invalid_base64"),
    "a bad line": (named("file", GOOD + b"\r\n{}") + END, "missing_request@2"),
    "one part too many": (
        b"".join(named(f"f{n}") for n in range(PARTS_MAX)) + BODY,
        "too_many_parts",
    ),
    "one header too many": (
        part('form-data; name="file"', GOOD, *(f"X{n}: 1" for n in range(HEADERS_MAX))) + END,
        INVALID,
    ),
    "a header of 5,000 bytes": (
        part('form-data; name="file"', GOOD, "X: " + "y" * 5_000) + END,
        INVALID,
    ),
    "a header name of 5,000 bytes": (
        part('form-data; name="file"', GOOD, "X" * 5_000 + ": y") + END,
        INVALID,
    ),
    "a field of 100 kB": (named("a", b"x" * 100_000) + BODY, "envelope_too_large"),
    "fields of 70 kB": (
        b"".join(named(f"f{n}", b"x" * 2_000) for n in range(35)) + BODY,
        "envelope_too_large",
    ),
    "a second form behind": (BODY + BODY, "ok:1"),
}


def _many_parts() -> Bytes:
    return tuple((named(f"p{number}"), 1) for number in range(1_000))


LARGE: Final[dict[str, tuple[Bytes, str]]] = {
    # 2024-53981: each byte outside of the parts was logged. 2026-40347: and searched slowly.
    "a preamble of text": (b"x" * 100 + b"\r\n" + BODY, INVALID),
    "a preamble behind a line end": (((b"\r\n", 1), (b"x" * 1_000, 1_000), (BODY, 1)), INVALID),
    "a preamble of line ends": (((b"\r\n", 500_000), (BODY, 1)), "envelope_too_large"),
    "a preamble of 100 MB": (((b"\n", 1), (b"x" * 100_000, 1_000), (BODY, 1)), INVALID),
    "an epilogue of text": (BODY + b"x" * 60_000, "ok:1"),
    "an epilogue of 100 MB": (((BODY, 1), (b"x" * 100_000, 1_000)), "envelope_too_large"),
    "an epilogue of line ends": (((BODY, 1), (b"\r\n", 500_000)), "envelope_too_large"),
    # 2026-42561: headers of a part without end, in number or in size.
    "headers without end": (
        ((b"--cut\r\n", 1), (b"A: b\r\n", 200_000)),
        INVALID,
    ),
    "a header name of 1 MB": (((b"--cut\r\n", 1), (b"A" * 1_000, 1_000)), INVALID),
    "a header value of 1 MB": (((b"--cut\r\nA: ", 1), (b"b" * 1_000, 1_000)), INVALID),
    "blanks of 1 MB before a value": (((b"--cut\r\nA:", 1), (b" " * 1_000, 1_000)), INVALID),
    "1,000 parts": (_many_parts(), "too_many_parts"),
    "100,000 parts of nothing": (((b"--cut\r\n\r\n\r\n", 100_000), (END, 1)), INVALID),
    # Looks like a boundary all the time: quadratic in some parsers.
    "a file of half boundaries": (
        ((FILE.removesuffix(GOOD + b"\r\n"), 1), (b"\r\n--cu", 40_000), (b"\r\n" + END, 1)),
        ",".join(f"not_json@{line}" for line in range(2, 102)) + "+39900",
    ),
}
"""The advisories with a body; those with header fields only are below."""

HEADS: Final[dict[str, tuple[str, bytes, str]]] = {
    "a boundary in quotes": ('multipart/form-data; boundary="cut"', BODY, "ok:1"),
    "a type in capitals": ("Multipart/Form-Data; boundary=cut", BODY, "ok:1"),
    "a charset as well": ("multipart/form-data; charset=utf-8; boundary=cut", BODY, "ok:1"),
    "no boundary": ("multipart/form-data", BODY, INVALID),
    "an empty boundary": ("multipart/form-data; boundary=", BODY, INVALID),
    "an empty boundary in quotes": ('multipart/form-data; boundary=""', BODY, INVALID),
    "an extended boundary": ("multipart/form-data; boundary*=utf-8''cut", BODY, INVALID),
    "another boundary in the head": ("multipart/form-data; boundary=other", BODY, INVALID),
    "a boundary of 71": (f"multipart/form-data; boundary={'b' * 71}", BODY, INVALID),
    "a boundary of 4,000": (f"multipart/form-data; boundary={'b' * 4_000}", BODY, INVALID),
    "a boundary of 1 MB": (f"multipart/form-data; boundary={'b' * 1_000_000}", BODY, INVALID),
    "multipart/mixed": ("multipart/mixed; boundary=cut", BODY, "not_an_object"),
    "multipart/related": ("multipart/related; boundary=cut", BODY, "not_an_object"),
    # 2026-53538, 53539: semicolons of a query took quadratic time, and smuggled fields.
    "a form of the other kind": ("application/x-www-form-urlencoded", b"a=1;" * 2_000, "not_json"),
    # 2024-24762: the options of this header took exponential time.
    "2024-24762": (
        'application/x-www-form-urlencoded; !="' + "\\" * 2_000,
        b"",
        "truncated_body",
    ),
    "2024-24762 with a boundary": (
        'multipart/form-data; boundary="' + "\\" * 2_000,
        BODY,
        INVALID,
    ),
    "10,000 semicolons": ("multipart/form-data" + ";" * 10_000 + "boundary=cut", BODY, "ok:1"),
    "10,000 quotes": ("multipart/form-data; a=" + '"' * 10_000 + "; boundary=cut", BODY, "ok:1"),
}


def _bodies() -> Iterator[tuple[str, Bytes, str]]:
    for name, body in RIGHT.items():
        yield name, body, "ok:1"
    for name, (body, verdict) in {**WRONG, **LARGE}.items():
        yield name, body, verdict
    for name in FILE_NAMES:
        yield (
            f"a file called {name[:20]}",
            part(f'form-data; name="file"; filename="{name}"') + END,
            "ok:1",
        )
    # 2026-53537: an extended parameter stood in for the plain one.
    for extra in ("name*=utf-8''a", 'name*0="a"', "filename*=utf-8''..%2Fx"):
        body = part(f'form-data; name="file"; {extra}') + END
        yield f"beside it {extra}", body, "ok:1"
    for size in (1, 69, 70):
        yield f"a boundary of {size}", BODY.replace(b"--cut", b"--" + b"b" * size), "ok:1"


def _head(name: str) -> Mapping[str, str]:
    size = name.removeprefix("a boundary of ")
    if name != size:
        return {"content-type": f"multipart/form-data; boundary={'b' * int(size)}"}
    return {"content-type": TYPE}


def _cases() -> Iterator[Case]:
    for name, body, verdict in _bodies():
        yield Case(id=f"M1/{name}", kind="M1", given=body, verdict=verdict, head=_head(name))
    for name, (kind, body, verdict) in HEADS.items():
        head = {"content-type": kind}
        yield Case(id=f"M1/{name}", kind="M1", given=body, verdict=verdict, head=head)
    # 2026-53540: a negative length meant: read all.
    for length, verdict in (("0", "ok:1"), (str(7 * 2**30), "input_too_large")):
        yield Case(
            id=f"M1/a length of {length}",
            kind="M1",
            given=BODY,
            verdict=verdict,
            head={"content-type": TYPE, "content-length": length},
        )
    yield Case(
        id="M1/a large file is no envelope",
        kind="M1",
        given=part('form-data; name="file"', (GOOD + b"\n") * 2_000) + END,
        verdict="ok:2000",
        head={"content-type": TYPE},
        limits=Limits(envelope_bytes_max=300),
    )


CASES: Final[list[Case]] = list(_cases())
