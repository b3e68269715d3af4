"""What an attacker writes on a connection, and what may come of it.

Every case but those of paths and methods is followed by a second request whose path names the case.
Whoever takes the first one's end for somewhere else would run that one, too.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Final

import msgspec

HOST: Final = b"%HOST%"
"""Stands for the server's own name and port."""
OWN: Final = b"%OWN%"
"""Stands for the path of the request itself."""
BODY: Final = b"hello"
LINE: Final = b"GET " + OWN + b" HTTP/1.1\r\n"
POST: Final = b"POST " + OWN + b" HTTP/1.1\r\n"
NAMED: Final = b"Host: " + HOST + b"\r\n"


class Verdict(Enum):
    """What may happen."""

    UNSEEN = "refused or cut; no route has seen even the first request"
    ALONE = "the first request may be answered, with 4xx; the second never"
    ANSWERED = "a route answers, with 4xx"
    GOOD = "both requests run: it is plain HTTP, and shows that the second one can be seen"


class Case(msgspec.Struct, frozen=True):
    """One connection."""

    name: str
    sent: bytes
    verdict: Verdict = Verdict.UNSEEN


def cases() -> list[Case]:
    """All cases, each with a name of its own."""
    return [
        *_lengths(),
        *_codings(),
        *_characters(),
        *_line_ends(),
        *_request_lines(),
        *_targets(),
        *_hosts(),
        *_sizes(),
        *_chunks(),
        *_expectations(),
        *_other_protocols(),
        *_hidden(),
        *_paths(),
        *_methods(),
        *_good(),
    ]


def _head(*fields: bytes, line: bytes = LINE) -> bytes:
    return b"".join((line, NAMED, *(field + b"\r\n" for field in fields), b"\r\n"))


def _each(group: str, sent: list[bytes], verdict: Verdict = Verdict.UNSEEN) -> Iterator[Case]:
    for number, one in enumerate(sent):
        yield Case(f"{group}-{number}", one, verdict)


def _listed(text: str) -> list[str]:
    """Values with bars between them."""
    return text.split("|")


def _lengths() -> Iterator[Case]:
    values = _listed(
        "-1|-0|+5|0x5|5 5|5,5|5, 5|5;5|5.0|5e1|1_0|\u0665|\uff15|||\t|99999999999999999999|"
        "18446744073709551616|five|0b1|0o7|5-|--5|NaN|inf|'5'|\"5\"|5h|&#53;|%35|5\\|5/|(5)|"
        "5:|5\x0b|5\x00|\x005|5\r|\x0b5"
    )
    sent = [_head(b"Content-Length: " + value.encode(), line=POST) + BODY for value in values]
    length = b"Content-Length: "
    pairs = [(b"5", b"5"), (b"5", b"6"), (b"0", b"5"), (b"5", b"0"), (b"5", b"05"), (b"5", b"-5")]
    sent += [_head(length + one, length + two, line=POST) + BODY for one, two in pairs]
    sent += [
        _head(length + b"5", name + b": 6", line=POST) + BODY
        for name in (b"content-length", b"CONTENT-LENGTH", b"Content-length")
    ]
    odd_names = (b"Content-Length ", b"Content-Length\t", b" Content-Length", b"Content-\x00Length")
    sent += [_head(name + b": 5", line=POST) + BODY for name in odd_names]
    yield from _each("length", sent)


def _codings() -> Iterator[Case]:
    values = _listed(
        "xchunked|chunkedx|identity|gzip|gzip, chunked|chunked, gzip|chunked, identity|"
        "chunked, chunked|chunked;q=1|\"chunked\"|'chunked'|chunked,|,chunked|, chunked|"
        "chunked chunked|\x0bchunked|\x0cchunked|chunked\x00|chunked\x0b|ch\x00unked|chunk|"
        "chunke d|deflate|br|trailers||\t|*|chunked/1|{chunked}|chunked\\|%63hunked|chünked|"
        "identity, chunked|gzip,chunked|x, chunked|chunked;|chunked; foo=bar|chunked\x1f|"
        "tchunked"
    )
    end = b"0\r\n\r\n"
    coding = b"Transfer-Encoding: "
    sent = [_head(coding + value.encode(), line=POST) + end for value in values]
    sent += [_head(coding + raw, line=POST) + end for raw in (b"chunked\xff", b"\xa0chunked")]
    both = [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 0"),
        (b"Content-Length: 5", b"transfer-encoding: CHUNKED"),
        (b"Content-Length: 5", b"Transfer-Encoding: identity"),
        (b"Content-Length: 5", b"Transfer-Encoding: xchunked"),
        (b"Content-Length: 5", b"Transfer-Encoding:chunked"),
        (b"Content-Length: 5", b"Transfer-Encoding:\tchunked"),
        (b"Content-Length: 5", b"Transfer-Encoding : chunked"),
        (b"Content-Length: 5", b"Transfer-Encoding\r\n : chunked"),
        (b"Content-Length: 5", b"X: y\rTransfer-Encoding: chunked"),
        (b"Content-Length: 5", b"X: y\nTransfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Transfer-Encoding: chun\r\n ked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        (b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"transfer-encoding: x"),
    ]
    sent += [_head(*fields, line=POST) + end for fields in both]
    old = b"POST " + OWN + b" HTTP/1.0\r\n"
    sent += [_head(b"Transfer-Encoding: chunked", line=old) + end]
    sent += [_head(b"Transfer-Encoding: chunked", b"Connection: keep-alive", line=old) + end]
    yield from _each("coding", sent)


def _characters() -> Iterator[Case]:
    controls = [*(code for code in range(32) if code not in (9, 10, 13)), 127]
    yield from _each("value", [_head(b"A: b" + bytes([code]) + b"c") for code in controls])
    in_names = [*range(9), 11, 12, *range(14, 33), *b'()<>@,;\\"/[]?={}', 127, 128, 233, 255]
    yield from _each("name", [_head(b"A" + bytes([code]) + b"b: c") for code in in_names])
    yield from _each("no-name", [_head(b": c"), _head(b"abc"), _head(b" : c"), _head(b"\t"), b":"])
    targets = [*range(9), 11, 12, *range(14, 32), 127]
    yield from _each(
        "target",
        [_head(line=b"GET " + OWN + bytes([code]) + b" HTTP/1.1\r\n") for code in targets],
    )
    raw = (b"\t", b"\r", b"\n", b" x", b"\x80", b"\xff", b"\xc3\xa9", b"\xe2\x80\xa8")
    yield from _each(
        "target-raw", [_head(line=b"GET " + OWN + one + b"x HTTP/1.1\r\n") for one in raw]
    )


def _line_ends() -> Iterator[Case]:
    whole = _head(b"A: b")
    yield from _each(
        "line-end",
        [
            whole.replace(b"\r\n", b"\n"),
            whole.replace(b"\r\n", b"\r"),
            whole.replace(b"\r\n", b"\n\r"),
            whole.replace(b"\r\n", b"\r\r\n"),
            whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"),
            whole.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r"),
            whole.replace(b"A: b\r\n", b"A: b\n"),
            whole.replace(b"A: b\r\n", b"A: b\r"),
            whole[:-4] + b"\r\n\n",
            whole[:-4] + b"\n\r\n",
            whole[:-4] + b"\n\n",
            whole[:-4] + b"\r\r",
            whole.replace(b"A: b\r\n", b"A: b\r\n c\r\n"),
            whole.replace(b"A: b\r\n", b"A: b\r\n\tc\r\n"),
            whole.replace(b"A: b\r\n", b"A:\r\n b\r\n"),
            whole.replace(b"A: b\r\n", b"A: b\r\n \r\n"),
            whole.replace(b"A: b\r\n", b"A\r\n : b\r\n"),
            whole.replace(b"Host: ", b"Host:\r\n "),
            whole.replace(NAMED, b" " + NAMED),
            whole.replace(NAMED, b"\t" + NAMED),
            whole.replace(NAMED, b" x\r\n" + NAMED),
            whole.replace(b"A: b\r\n", b"A: b\x85\nB: c\r\n"),
        ],
    )


def _request_lines() -> Iterator[Case]:
    versions = _listed(
        "HTTP/1.2|HTTP/1.10|HTTP/11|HTTP/1.|HTTP/.1|HTTP/0.9|HTTP/2.0|HTTP/2|HTTP/3.0|"
        "HTTP/9.9|http/1.1|HTTP/1.1x|HTTP /1.1|HTTP/ 1.1|HTTP/1,1|HTTPS/1.1|XTTP/1.1|"
        "HTTP/-1.1|HTTP/01.1|HTTP/1.1 HTTP/1.1|HTTP/1.1 |HTTP/1.1\t|HTTP\\1.1|HTTP/1.1\x00||"
        "1.1|ICE/1.1"
    )
    sent = [_head(line=b"GET " + OWN + b" " + version.encode() + b"\r\n") for version in versions]
    methods = (
        b"get|Get|FOO|GETT|GE|G|||0|\x00GET|GET\x00|GET,POST|GET/|-|_|GET:|(GET)|*|P\xc3\x96ST"
    ).split(b"|")
    sent += [_head(line=method + b" " + OWN + b" HTTP/1.1\r\n") for method in methods]
    sent += [
        _head(line=b" " + LINE),
        _head(line=b"\t" + LINE),
        _head(line=b"\x00" + LINE),
        _head(line=b"\xef\xbb\xbf" + LINE),
        _head(line=b"GET\t" + OWN + b" HTTP/1.1\r\n"),
        _head(line=b"GET" + OWN + b" HTTP/1.1\r\n"),
        _head(line=b"GET " + OWN + b"\tHTTP/1.1\r\n"),
        _head(line=b"GET HTTP/1.1\r\n"),
        _head(line=b"GET\r\n"),
        _head(line=b"GET " + OWN + b" x HTTP/1.1\r\n"),
        b"GET " + OWN + b"\r\n\r\n",
        b"GET " + OWN + b"\n",
        b"X" * 5_000,
    ]
    yield from _each("line", sent)


def _targets() -> Iterator[Case]:
    forms = _listed(
        "*|x|x:1|http://|http://evil.test/|https://evil.%HOST%/|http://u:p@%HOST%/|http:///x|"
        "ftp://%HOST%/|file:///etc/passwd|javascript:1|?a|#|%OWN%#b|http:/x|http:x|\\x|%2f|"
        "..|ws://%HOST%/|http://%HOST%@evil.test/|http://%HOST%#/|//|"
        "http://evil.test:80%OWN%|http://[::1]%OWN%|http://%HOST%.evil.test/|about:blank|"
        "data:,x"
    )
    sent = [
        _head(line=b"GET " + form.encode() + b" HTTP/1.1\r\n") for form in forms if form != "//"
    ]
    sent += [
        _head(line=b"CONNECT " + form + b" HTTP/1.1\r\n")
        for form in (HOST, OWN, b"evil.test:443", b"*", b"http://%HOST%/")
    ]
    sent += [_head(line=b"OPTIONS * HTTP/1.1\r\n")]
    yield from _each("form", sent)


def _hosts() -> Iterator[Case]:
    hosts = _listed(
        "|a/public?x=|a b|a,b|a@b|a:b|a:9999999|[::1|::1|a\\b|a#b|a?b|a%00b|<x>|ä|a;b|'|"
        "a:80:80|http://a|a/|[g]|a:-1|a: 80|%HOST%, evil.test|%HOST% evil.test|%HOST%/|"
        "%HOST%?|@%HOST%|[]:80|{a}|a|b!"
    )
    sent = [LINE + b"Host: " + host.encode() + b"\r\n\r\n" for host in hosts if host != "a"]
    sent += [
        LINE + b"\r\n",
        LINE + b"Host: " + b"x" * 300 + b"\r\n\r\n",
        LINE + NAMED + NAMED + b"\r\n",
        LINE + NAMED + b"Host: evil.test\r\n\r\n",
        LINE + b"Host: evil.test\r\n" + NAMED + b"\r\n",
        LINE + NAMED + b"host: evil.test\r\n\r\n",
        LINE + b"Host : %HOST%\r\n\r\n",
        LINE + b"Host\x00: %HOST%\r\n\r\n",
        b"GET " + OWN + b" HTTP/1.0\r\nHost: a/b\r\n\r\n",
        b"GET " + OWN + b" HTTP/1.0\r\n" + NAMED + NAMED + b"\r\n",
    ]
    twice = (b"Authorization: Bearer x", b"Content-Type: text/plain")
    sent += [_head(field, field) for field in twice]
    yield from _each("host", sent)


def _sizes() -> Iterator[Case]:
    yield from _each(
        "size",
        [
            _head(b"A: " + b"x" * 17_000),
            _head(b"A: " + b"x" * 100_000),
            _head(b"x" * 20_000 + b": a"),
            _head(*[b"A: b"] * 5_000),
            _head(*[b"a:"] * 20_000),
            _head(b"Cookie: " + b"a=b; " * 5_000),
            _head(line=b"GET " + OWN + b"?" + b"x" * 20_000 + b" HTTP/1.1\r\n"),
            _head(line=b"GET " + OWN + b"x" * 70_000 + b" HTTP/1.1\r\n"),
            _head(line=b"X" * 20_000 + b" / HTTP/1.1\r\n"),
            b"\r\n" * 50_000 + LINE,
            LINE + b"A: " + b"x" * 200_000,
            LINE + b"A: b\r\n" * 30_000,
        ],
    )


def _chunks() -> Iterator[Case]:
    bodies = (
        b"5;\r\nhello|5 \r\nhello|5 ;a\r\nhello| 5\r\nhello|5\t\r\nhello|5\nhello\n0\n\n"
        b"|5\nhello\r\n0\r\n\r\n|5\r\nhello\n0\r\n\r\n|5\r\nhello0\r\n\r\n|5\r\nhelloX\r\n0\r\n\r\n"
        b"|-5\r\nhello|+5\r\nhello|0x5\r\nhello|10000000000000000\r\n|g\r\n|\r\n|;a\r\n"
        b"|5;a\rb\r\nhello|5;a\nb\r\nhello|5;a\x00b\r\nhello|5\rhello\r\n|0\n\n|5;a=\x7f\r\nhello"
        b"|5_0\r\nhello|5 0\r\nhello|0\r\nbad\r\n\r\n|0\r\nX: a\r\n b\r\n\r\n|0\r\n\n|0\r\n\rX"
        b"|5;a=b=c\r\nhello|5;a=\"b\r\nhello|5,5\r\nhello|5.\r\nhello|'5'\r\nhello|\x005\r\nhello"
        b"|5\r\nhello\r\n0\r\n \r\n\r\n|5\r\r\nhello|5\r\nhel|5\r\nhello\r\n|ffffffffffffffff\r\nx"
        b"|7fffffffffffffff\r\nx|00000000000000000000000000000005x\r\n|5;a;;\x01\r\nhello"
    ).split(b"|")
    # Fields behind the body would pass for fields of the head.
    trailers = (
        b"X-T: 1",
        b"Authorization: Bearer x",
        b"Host: evil.test",
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"X-Organization-ID: other",
        b"X: " + b"y" * 20_000,
        b"\r\n".join([b"X: y"] * 1_000),
    )
    bodies += [b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n" for trailer in trailers]
    bodies += [b"5;a=" + b"x" * 40_000 + b"\r\nhello\r\n", b"1;a=" + b"x" * 70_000]
    bodies += [b"0" * 70_000 + b"5\r\nhello\r\n"]
    head = _head(b"Transfer-Encoding: chunked", line=POST)
    yield from _each("chunk", [head + body for body in bodies], Verdict.ALONE)


def _expectations() -> Iterator[Case]:
    values = (b"x", b"100-continue, x", b"200-ok", b"", b"101-continue", b"100-continue;q=1")
    sent = [_head(b"Expect: " + value, b"Content-Length: 5", line=POST) for value in values]
    sent += [_head(*[b"Expect: 100-continue"] * 2, b"Content-Length: 5", line=POST)]
    yield from _each("expect", sent)


def _other_protocols() -> Iterator[Case]:
    yield from _each(
        "protocol",
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
            b"PRI * HTTP/2.0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"EHLO x\r\n",
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"\r\n\r\n\x00\r\nQUIT\n" + bytes(16),
            bytes(100),
            bytes(range(256)),
            b"\x05\x01\x00",
            b"USER root\r\n",
            b"\x80\x2e\x01\x00\x02",
        ],
    )
    upgrades = (b"h2c", b"websocket", b"TLS/1.0", b"foo", b"h2c, websocket", b"HTTP/2.0")
    sent = [_head(b"Connection: Upgrade", b"Upgrade: " + value) for value in upgrades]
    sent += [_head(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA")]
    sent += [
        _head(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 5", line=POST) + BODY,
        _head(b"Connection: upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked", line=POST)
        + b"5\r\nhello\r\n0\r\n\r\n",
    ]
    yield from _each("upgrade", sent, Verdict.ALONE)


def _hidden() -> Iterator[Case]:
    """Whatever stands in a body, or behind the last request of a connection, is no request."""
    inner = b"GET %SECOND% HTTP/1.1\r\nHost: %HOST%\r\n\r\n"
    # The lengths of both placeholders' values are padded to be known by whoever runs the cases.
    sent = [
        _head(b"Content-Length: 1000", line=method + b" " + OWN + b" HTTP/1.1\r\n") + inner
        for method in (b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"PATCH")
    ]
    sent += [
        _head(b"Transfer-Encoding: chunked", line=method + b" " + OWN + b" HTTP/1.1\r\n")
        + b"400\r\n"
        + inner
        for method in (b"GET", b"POST", b"DELETE")
    ]
    sent += [
        _head(b"Connection: close"),
        _head(b"connection: CLOSE"),
        _head(b"Connection: x, close"),
    ]
    sent += [_head(line=b"GET " + OWN + b" HTTP/1.0\r\n")]
    sent += [_head(b"Connection: keep-alive", line=b"GET " + OWN + b" HTTP/1.0\r\n")]
    yield from _each("hidden", sent, Verdict.ALONE)


def _paths() -> Iterator[Case]:
    base = "/api/v1/ie/requestqueue/apikey"
    paths = (
        "/..|/../etc/passwd|/%2e%2e/etc/passwd|/healthz%00|/healthz/|//healthz|/healthz/..|//"
        "|/./healthz|/healthz;x|/HEALTHZ|/healthz%20|/docs/../openapi.json|/healthz%0d%0aX:%20y"
        "|/docs/%2e%2e/openapi.json|/docs//style.css|/%|/%zz|/%c0%ae%c0%ae/|/%ff|/%u002e|/\\..\\"
        "|/api/v1/ie/requestqueue/downloads/..%2f..%2fsecret/output.jsonl|/docs/..%5copenapi.json"
        f"|{base}/requests/../models|{base}/requests/%2e%2e/models|{base}/requests/%2F..%2F"
        f"|{base}//requests|{base}/requests/%00|{base}/requests/x/cancel/../../y|{base}/%2e/requests"
        "|/?/../healthz|/healthz%2f|/healthz%3f|/%68%65%61%6c%74%68%7a%7a|/.git/config|/.env|/;"
    ).split("|")
    paths += ["/" + "a/" * 5_000, "/" + "%2e%2e/" * 2_000]
    line = "GET {} HTTP/1.1\r\n"
    sent = [_head(b"Connection: close", line=line.format(path).encode()) for path in paths]
    yield from _each("path", sent, Verdict.ANSWERED)


def _methods() -> Iterator[Case]:
    names = _listed(
        "TRACE|PUT|DELETE|PROPFIND|PURGE|LINK|M-SEARCH|SEARCH|MKCOL|LOCK|PATCH|POST|OPTIONS|QUERY"
    )
    line = "{} /healthz HTTP/1.1\r\n"
    sent = [_head(b"Connection: close", line=line.format(name).encode()) for name in names]
    yield from _each("method", sent, Verdict.ANSWERED)


def _good() -> Iterator[Case]:
    yield from _each(
        "good",
        [
            _head(),
            b"\r\n" + _head(),
            b"\r\n\r\n" + _head(),
            _head(line=b"GET http://" + HOST + OWN + b" HTTP/1.1\r\n"),
            _head(line=b"GET HTTP://" + HOST + OWN + b"?a HTTP/1.1\r\n"),
            _head(b"Content-Length: 5", line=POST) + BODY,
            _head(b"Content-Length: 005", line=POST) + BODY,
            _head(b"Content-Length:\t5 ", line=POST) + BODY,
            _head(b"Transfer-Encoding: chunked", line=POST) + b"5\r\nhello\r\n0\r\n\r\n",
            _head(b"Transfer-Encoding: CHUNKED", line=POST) + b"5;a=b\r\nhello\r\n0\r\n\r\n",
            _head(b"Transfer-Encoding: chunked", line=POST) + b'005;a="b"\r\nhello\r\n0\r\n\r\n',
            _head(b"Expect: 100-Continue", b"Content-Length: 5", line=POST) + BODY,
            _head(b"Upgrade: h2c"),
            _head(b"Content_Length: 5", b"Transfer_Encoding: chunked"),
            _head(b"A: \xe9\t b"),
            _head(b"A:"),
            _head(b"A: " + b"x" * 15_000),
            # Another protocol by its name, which this parser reads as HTTP; others refuse it.
            _head(line=b"GET " + OWN + b" RTSP/1.1\r\n"),
            # Two blanks are no more than a blank to every reader known.
            _head(line=b"GET  " + OWN + b"  HTTP/1.1\r\n"),
        ],
        Verdict.GOOD,
    )
