"""J4: the shape that a line must have, and what is not looked at.

We refuse what the provider would refuse the whole file for, or what could not come back unchanged.
All else inside `request` is the provider's to judge: a line that it refuses costs one line. But
for the addresses of files: the provider opens them with the operator's rights, so they are judged
here. The server of the corpus has its folder in `gs://own-bucket/penstock/`.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Final

from tests.corpus.case import GOOD, Case, Row, cases, on_line_one

CONTENT: Final = '{"parts":[{"text":"x"}]}'
SCALARS: Final = ("null", "true", "false", "0", "-1.5", '"x"', '""')
KNOWN_ROLES: Final = ('"user"', '"model"', '"function"', '""', "null")
OTHER_ROLES: Final = (
    '"assistant"',
    '"system"',
    '"tool"',
    '"developer"',
    '"human"',
    '"User"',
    '"MODEL"',
    '" user"',
    '"user "',
    r'"user\u0000"',
    r'"us\u200ber"',
    '"\u0443ser"',
    '"😀"',
    f'"{"x" * 65}"',
    f'"{"x" * 5000}"',
    "0",
    "1.5",
    "true",
    "false",
    "[]",
    '["user"]',
    "{}",
    '{"role":"user"}',
)
OWN_VALUES: Final = {
    "nothing": '""',
    "one character": '"x"',
    "64 characters": f'"{"x" * 64}"',
    "65 characters": f'"{"x" * 65}"',
    "5,000 characters": f'"{"x" * 5000}"',
    "an emoji": '"😀"',
    "an escaped emoji": r'"\ud83d\ude00"',
    "a family": '"\U0001f468\u200d\U0001f469\u200d\U0001f467"',
    "Hebrew": '"\u05e9\u05dc\u05d5\u05dd"',
    "an override of direction": '"a\u202egnp.exe"',
    "a NUL": r'"a\u0000b"',
    "line ends": r'"a\r\nb"',
    "markup": '"<script>alert(1)</script>"',
    "a formula": '"=cmd|x!A1"',
    "a path": '"../../etc/passwd"',
    "SQL": '"\'; DROP TABLE jobs; --"',
    "a template": '"{{7*7}}${7*7}"',
    "a number like ours": '"k-1f9c03ab-000017"',
    "a number": "17",
    "a fraction": "1.50",
    "null": "null",
    "true": "true",
    "an array": '["a",["b"]]',
    "an object": '{"a":{"b":1}}',
}
GOOD_URIS: Final = (
    '"gs://bucket/name"',
    '"gs://bucket/a b/ü*.png"',
    r'"\u0067s:\/\/bucket\/name"',
    '"gs://own-bucket/others/name"',
    '"gs://own-bucket/penstock-2/name"',
    '"gs://bucket/own-bucket/penstock/name"',
    '"https://example.com/a.png"',
    '"https://example.com/a.png?X-Goog-Signature=0a"',
    '"https://www.youtube.com/watch?v=x"',
    '"https://storage.googleapis.com/bucket/penstock/name"',
    f'"gs://bucket/{"n" * 1_024}"',
    "null",
)
BAD_URIS: Final = (
    '"gs://another-bucket/../secret"',
    '"gs://bucket"',
    '"gs://bucket/"',
    '"gs://bucket//name"',
    '"gs://bucket/name#1"',
    r'"gs://bucket/a\u0000"',
    f'"gs://bucket/{"n" * 1_025}"',
    '"GS://bucket/name"',
    '" gs://bucket/name"',
    '"s3://bucket/name"',
    '"file:///etc/passwd"',
    '"/etc/passwd"',
    '"http://169.254.169.254/computeMetadata/v1/"',
    '"http://example.com/a.png"',
    '"https://user@example.com/a"',
    '"https://example.com/%2f"',
    '"https://exämple.com/a"',
    '"ftp://example.com/a"',
    '"data:text/plain,x"',
    '"javascript:alert(1)"',
    '"//example.com/a"',
    '"\\\\\\\\server\\\\share"',
    '""',
    "17",
    "false",
    "{}",
    '["gs://bucket/name"]',
)
OWN_URIS: Final = (
    '"gs://own-bucket/penstock"',
    '"gs://own-bucket/penstock/"',
    '"gs://own-bucket/penstock/jobs/j/input.jsonl"',
    r'"gs:\/\/own-bucket\/p\u0065nstock/a"',
    '"gs://own-bucket/pen%73tock/a"',
    '"gs://own-bucket/*"',
    '"gs://own-bucket/p?nstock/a"',
    '"gs://own-bucket/{penstock}/a"',
    '"https://storage.googleapis.com/own-bucket/penstock/a"',
    '"https://own-bucket.storage.googleapis.com/penstock/a"',
    '"https://storage.googleapis.com/storage/v1/b/own-bucket/o/a?alt=media"',
)
URIS: Final = (
    *((uri, "ok") for uri in GOOD_URIS),
    *((uri, "invalid_file_uri") for uri in BAD_URIS),
    *((uri, "file_uri_not_allowed") for uri in OWN_URIS),
)
OWN: Final = '"gs://own-bucket/penstock/a"'
FILE_PLACES: Final = {
    "snake": f'"contents":[{{"parts":[{{"file_data":{{"file_uri":{OWN}}}}}]}}]',
    "camel in snake": f'"contents":[{{"parts":[{{"file_data":{{"fileUri":{OWN}}}}}]}}]',
    "snake in camel": f'"contents":[{{"parts":[{{"fileData":{{"file_uri":{OWN}}}}}]}}]',
    "small": f'"contents":[{{"parts":[{{"filedata":{{"fileuri":{OWN}}}}}]}}]',
    "capital": f'"contents":[{{"parts":[{{"FILE_DATA":{{"File_Uri":{OWN}}}}}]}}]',
    "escapes": (rf'"contents":[{{"parts":[{{"f\u0069leData":{{"\u0066ileUri":{OWN}}}}}]}}]'),
    "the second part": (
        f'"contents":[{CONTENT},{{"parts":[{{"text":"x"}},{{"fileData":{{"fileUri":{OWN}}}}}]}}]'
    ),
    "parts of no array": f'"contents":[{{"parts":{{"fileData":{{"fileUri":{OWN}}}}}}}]',
    "both spellings": (
        '"contents":[{"parts":[{"fileData":{"fileUri":"gs://bucket/name"},'
        f'"file_data":{{"file_uri":{OWN}}}}}]}}]'
    ),
    "system instruction": (
        f'"contents":[{CONTENT}],"systemInstruction":{{"parts":[{{"fileData":{{"fileUri":{OWN}}}}}]}}'
    ),
    "system_instruction": (
        f'"system_instruction":{{"parts":[{{"file_data":{{"file_uri":{OWN}}}}}]}},"contents":[{CONTENT}]'
    ),
    "an answer of a function": (
        '"contents":[{"role":"function","parts":[{"functionResponse":{"name":"f","response":{},'
        f'"parts":[{{"fileData":{{"fileUri":{OWN}}}}}]}}}}]}}]'
    ),
    "beside generationConfig": (
        f'"generationConfig":{{"topK":1}},"contents":[{{"parts":[{{"fileData":{{"fileUri":{OWN}}}}}]}}]'
    ),
}
NO_FILES: Final = (
    '"contents":[{"parts":[{"text":"fileData fileUri gs://own-bucket/penstock/a"}]}]',
    '"contents":[{"parts":[{"fileData":null,"text":"x"}]}]',
    '"contents":[{"parts":[{"fileUri":"file:///a"}]}]',
    (
        f'"contents":[{CONTENT}],"generationConfig":{{"responseSchema":{{"type":"OBJECT",'
        '"properties":{"fileUri":{"type":"STRING"},"fileData":{"type":"STRING"}}}}'
    ),
)
LATER: Final = (
    '"contents":[{"parts":[]}]',
    '"contents":[{"parts":[{"text":17}]}]',
    '"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"!"}}]}]',
    '"contents":[{"parts":[{"functionCall":{"name":"f","args":{"a":1}}}]}]',
    '"contents":[{"parts":[{"unknown":1}]}]',
    '"contents":[{"unknown":1}]',
    f'"contents":[{CONTENT}],"generationConfig":{{"temperature":99}}',
    f'"contents":[{CONTENT}],"generationConfig":{{"temperature":"hot"}}',
    f'"contents":[{CONTENT}],"tools":null',
    f'"contents":[{CONTENT}],"unknownMember":[1]',
    f'"contents":[{CONTENT}],"model":"models/another"',
    f'"contents":[{CONTENT}],"messages":[]',
    f'"contents":[{CONTENT}],"status":1,"response":2,"processed_time":3',
)
"""Inside `request`: accepted, because the provider judges it line by line."""

TRAPS: Final = (
    ('"contents":[{}]', "empty_object"),
    ('"contents":[{"parts":null}]', "empty_object"),
    ('"contents":[{"parts":{}}]', "empty_object"),
    ('"contents":[{"parts":[{"fileData":{}}]}]', "empty_object"),
    (f'"contents":[{CONTENT}],"Config":{{}}', "empty_object"),
    ('"contents":[{"parts":[17]}]', "mixed_types"),
    ('"contents":[{"parts":[{"inlineData":17}]}]', "mixed_types"),
    ('"contents":[{"parts":[{"fileData":[{"fileUri":"file:///a"}]}]}]', "mixed_types"),
    (f'"contents":[{CONTENT}],"systemInstruction":17', "mixed_types"),
)
"""Inside `request`: refused, because the provider's importer would refuse the whole file for it."""


def _types() -> Iterator[Row]:
    for value in (*SCALARS, "[]", '[{"contents":[{}]}]'):
        yield f"request {value}", f'{{"request":{value}}}'.encode(), "request_not_an_object"
    for value in (*SCALARS, "{}", '{"0":{}}'):
        line = f'{{"request":{{"contents":{value}}}}}'
        yield f"contents {value}", line.encode(), "contents_not_an_array"
    yield "contents []", b'{"request":{"contents":[]}}', "empty_contents"
    yield "contents [ ]", b'{"request":{"contents":[ \t]}}', "empty_contents"
    for value, before in itertools.product((*SCALARS, "[]", "[{}]"), ("", CONTENT + ",")):
        line = f'{{"request":{{"contents":[{before}{value}]}}}}'
        yield f"content {before[:1]}{value}", line.encode(), "content_not_an_object"
    for value in LATER:
        yield f"request with {value}", f'{{"request":{{{value}}}}}'.encode(), "ok"
    for value, verdict in TRAPS:
        yield f"request with {value}", f'{{"request":{{{value}}}}}'.encode(), verdict


def _roles() -> Iterator[Row]:
    for roles, verdict in ((KNOWN_ROLES, "ok"), (OTHER_ROLES, "unknown_role")):
        for role, before in itertools.product(roles, ("", CONTENT + ",")):
            line = f'{{"request":{{"contents":[{before}{{"role":{role},"parts":[]}}]}}}}'
            yield f"role {before[:1]}{role[:70]}", line.encode(), verdict
    escaped = rb'{"request":{"contents":[{"r\u006fle":"system"}]}}'
    yield "an escaped role", escaped, "unknown_role"
    yield "Role", b'{"request":{"contents":[{"Role":"system"}]}}', "ok"


def _members() -> Iterator[Row]:
    request = f'"request":{{"contents":[{CONTENT}]}}'
    names = ("status", "response", "processed_time")
    for name, value in itertools.product(names, ("null", '""', "{}", "0")):
        yield f"{name} {value}", f'{{"{name}":{value},{request}}}'.encode(), "reserved_member"
        if value == "0":
            line = f'{{{request},"{name}":{value}}}'
            yield f"{name} {value} behind", line.encode(), "reserved_member"
            yield f"{name} alone", f'{{"{name}":1}}'.encode(), "reserved_member"
            line = f'{{"{name.upper()}":{value},{request}}}'
            yield name.upper(), line.encode(), "ok"
    yield "an escaped status", rf'{{"st\u0061tus":1,{request}}}'.encode(), "reserved_member"
    for name, value in OWN_VALUES.items():
        for member in ("custom_id", "key"):
            line = f'{{"{member}":{value},{request}}}'
            yield f"{member} of {name}", line.encode(), "ok"
    yield "many own members", _many_members(request), "ok"
    yield "a name of 5,000 characters", f'{{"{"n" * 5000}":1,{request}}}'.encode(), "ok"


def _files() -> Iterator[Row]:
    for value, verdict in URIS:
        part = f'{{"fileData":{{"mimeType":"text/plain","fileUri":{value}}}}}'
        line = f'{{"request":{{"contents":[{{"parts":[{part}]}}]}}}}'
        yield f"fileUri {value[:70]} of {len(value)}", line.encode(), verdict
    for place, members in FILE_PLACES.items():
        yield f"a file: {place}", f'{{"request":{{{members}}}}}'.encode(), "file_uri_not_allowed"
    for members in NO_FILES:
        yield f"no file: {members}", f'{{"request":{{{members}}}}}'.encode(), "ok"
    beside = f'"metadata":{{"fileData":{{"fileUri":{OWN}}}}}'
    line = f'{{{beside},"request":{{"contents":[{CONTENT}]}}}}'
    yield "a file beside request", line.encode(), "ok"
    role = f'{{"role":"x","parts":[{{"fileData":{{"fileUri":{OWN}}}}}]}}'
    yield "a role and a file", f'{{"request":{{"contents":[{role}]}}}}'.encode(), "unknown_role"


def _many_members(request: str) -> bytes:
    own = ",".join(f'"m{number}":{number}' for number in range(2_000))
    return f"{{{own},{request}}}".encode()


OTHERS: Final[tuple[Row, ...]] = (
    ("nothing", b"{}", "missing_request"),
    ("an own member only", b'{"key":"k"}', "missing_request"),
    ("Request", b'{"Request":{"contents":[{}]}}', "missing_request"),
    ("request with a blank", b'{"request ":{"contents":[{}]}}', "missing_request"),
    ("requests", b'{"requests":[{"contents":[{}]}]}', "missing_request"),
    ("contents without request", b'{"contents":[{"parts":[{"text":"x"}]}]}', "missing_request"),
    ("a prompt", b'{"prompt":"x"}', "missing_request"),
    ("the batch format of Anthropic", b'{"custom_id":"x","params":{}}', "missing_request"),
    ("an escaped request", rb'{"r\u0065quest":{"contents":[{"parts":[]}]}}', "ok"),
    ("an empty request", b'{"request":{}}', "missing_contents"),
    ("content", b'{"request":{"content":[{}]}}', "missing_contents"),
    ("Contents", b'{"request":{"Contents":[{}]}}', "missing_contents"),
    ("instances", b'{"request":{"instances":[{}]}}', "missing_contents"),
    ("body", b'{"body":{"messages":[]}}', "openai_format"),
    ("messages", b'{"messages":[{"role":"user","content":"x"}]}', "openai_format"),
    (
        "the batch format of OpenAI",
        b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{}}',
        "openai_format",
    ),
    ("body null", b'{"body":null}', "openai_format"),
    ("messages in request", b'{"request":{"messages":[]}}', "openai_format"),
    ("body beside request", b'{"body":{},"request":{"contents":[{"parts":[]}]}}', "ok"),
    ("config", b'{"request":{"contents":[{}],"config":{}}}', "sdk_format"),
    ("config null", b'{"request":{"contents":[{}],"config":null}}', "sdk_format"),
    ("config alone", b'{"request":{"config":{}}}', "sdk_format"),
    ("an escaped config", rb'{"request":{"contents":[{}],"c\u006fnfig":1}}', "sdk_format"),
    ("config beside request", b'{"config":{},"request":{"contents":[{"parts":[]}]}}', "ok"),
)

FILE: Final = b'{"request":{"contents":[{"parts":[{"fileData":{"fileUri":"%b"}}]}]}}\n'
BAD: Final = b'{"request":{"contents":[]}}\n'
FILES: Final[tuple[Row, ...]] = (
    ("the same custom_id twice", (b'{"custom_id":"a",' + GOOD[1:] + b"\n") * 2, "ok:2"),
    ("the same line thrice", (GOOD + b"\n") * 3, "ok:3"),
    ("the second of three lines", GOOD + b"\n" + BAD + GOOD, "empty_contents@2"),
    ("all lines", BAD * 3, "empty_contents@1,empty_contents@2,empty_contents@3"),
    (
        "faults of many kinds",
        b"\n".join((b'{"key":1}', GOOD, b"[]", b'{"body":1}', b'{"request":1}')),
        "missing_request@1,not_an_object@3,openai_format@4,request_not_an_object@5",
    ),
    (
        "files of many kinds",
        b"".join(
            FILE % address
            for address in (
                b"gs://bucket/a",
                b"file:///a",
                b"gs://own-bucket/penstock/a",
                b"https://example.com/a",
                b"http://example.com/a",
            )
        ),
        "invalid_file_uri@2,file_uri_not_allowed@3,invalid_file_uri@5",
    ),
    (
        "a hundred bad lines",
        BAD * 100,
        ",".join(f"empty_contents@{line}" for line in range(1, 101)),
    ),
    (
        "a hundred and fifty bad lines",
        BAD * 150,
        ",".join(f"empty_contents@{line}" for line in range(1, 101)) + "+50",
    ),
)

MIB: Final = 1_048_576
PICTURE: Final = json.dumps({"inlineData": {"mimeType": "image/png", "data": "@"}}).encode()
BEGIN, END = (b'{"request":{"contents":[{"parts":[' + PICTURE + b"]}]}}").split(b"@")
LARGE: Final = (
    Case(
        id="J4/a picture of 1 MiB",
        kind="J4",
        given=((BEGIN, 1), (b"QUJD", MIB // 3), (END, 1)),
        verdict="ok:1",
        is_streamed=True,
    ),
    Case(
        id="J4/a picture of 100 MB",
        kind="J4",
        given=((GOOD + b"\n", 1), (BEGIN, 1), (b"QUJD", 33_000_000), (END, 1)),
        verdict="line_too_long@2",
        is_streamed=True,
    ),
)

CASES: Final[list[Case]] = [
    *on_line_one("J4", (*_types(), *_roles(), *_members(), *_files(), *OTHERS)),
    *cases("J4", FILES),
    *LARGE,
]
