"""The output of the main job: its folder, its files, its rows."""

from typing import Any, Final

import msgspec

from penstock.core.provider_error import OTHER, code_of
from penstock.doctor.check import Finding, fails, holds, unknown, warns
from penstock.doctor.lab import Lab, Made
from penstock.doctor.trial_lines import BAD_LINE, KEY, count_of, main_lines
from penstock.errors import BlobError, ProviderError
from penstock.lifecycle.exported import output_files
from penstock.providers.provider import ENDED_WITH_OUTPUT

_COUNTS: Final = ("promptTokenCount", "candidatesTokenCount")


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The output of the main job, as it was when the job had just ended."""

    names: list[str]
    checksums: list[str | None]
    rows: list[dict[str, Any]]


_ABOUT_ROWS: Final = (
    "key-echo",
    "key-text",
    "row-order",
    "rows-complete",
    "failed-line",
    "failed-line-succeeds",
    "output-folder",
    "output-files",
    "usage",
    "stats",
    "service-agent",
)


async def output_of(lab: Lab) -> tuple[Output | None, list[Finding]]:
    """Read the output of the main job; without one nothing about rows can be said."""
    made = lab.jobs["main"]
    if made.created is None or not made.has_ended:
        why = made.problem or f"still {made.state.lower()} when patience ended"
        return None, [unknown(check, f"the job has no output: {why}") for check in _ABOUT_ROWS]
    error = made.seen.get("error")
    if made.seen.get("state") not in ENDED_WITH_OUTPUT:
        said = str(error.get("message", "")) if isinstance(error, dict) else ""
        why = f"the job ended {made.state}: {said[:200]}"
        todo = "grant the service agent what the message names; then run it again"
        rest = [unknown(check, why) for check in _ABOUT_ROWS if check != "service-agent"]
        return None, [fails("service-agent", why, todo), *rest]
    info = made.seen.get("outputInfo")
    uri = str(info.get("gcsOutputDirectory", "")) if isinstance(info, dict) else ""
    below = lab.bucket.uri(f"{lab.folder}/out/main/")
    if not uri.startswith(below):
        saw = f"the output is in {uri or 'no folder'}, and not below {below}"
        rest = [unknown(check, saw) for check in _ABOUT_ROWS if check != "output-folder"]
        return None, [fails("output-folder", saw, "report it"), *rest]
    folder = uri.removeprefix(lab.bucket.uri(""))
    every = [name for name in await lab.objects() if name.startswith(f"{folder}/")]
    names = output_files(every)
    rows = [row for name in names for row in _rows(await lab.google.read(name))]
    sums = [(await lab.bucket.stat(name)).crc32c for name in names]
    findings = [
        holds("output-folder", uri.rsplit("/", 1)[-1]),
        _files(every, names),
        holds("service-agent", "it has read the input and written the output"),
    ]
    return Output(names=names, checksums=sums, rows=rows), findings


def rows(lab: Lab, output: Output) -> list[Finding]:
    """Judge the rows of the main job."""
    made = lab.jobs["main"]
    wanted = [one[KEY] for one in main_lines(lab.run)]
    keys = [row.get(KEY) for row in output.rows]
    bad = next((row for row in output.rows if row.get(KEY) == wanted[BAD_LINE - 1]), None)
    good = [row for row in output.rows if row is not bad]
    return [
        *_keys(keys, wanted),
        _complete(len(output.rows), len(wanted)),
        _failed(bad),
        _succeeded(made),
        _usage(good),
        _stats(made, len(wanted)),
    ]


async def output_final(lab: Lab, output: Output) -> Finding:
    """Compare the output with what it was when the job had just ended."""
    try:
        sums = [(await lab.bucket.stat(name)).crc32c for name in output.names]
        names = output_files(await lab.objects())
    except (ProviderError, BlobError) as error:
        return unknown("output-final", error.message)
    mine = [name for name in names if f"{lab.folder}/out/main/" in name]
    if sums == output.checksums and sorted(mine) == sorted(output.names):
        return holds("output-final", "the same bytes a little later")
    return fails("output-final", "it changed after the end of the job", "report it")


def _rows(body: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for text in body.splitlines():
        try:
            row = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            row = None
        found.append(row if isinstance(row, dict) else {})
    return found


def _files(every: list[str], names: list[str]) -> Finding:
    short = [name.rsplit("/", 1)[-1] for name in every]
    if not names:
        saw = f"no file of a known name: {', '.join(short) or 'nothing at all'}"
        return fails("output-files", saw, "report it")
    return holds("output-files", ", ".join(short), files=short)


def _keys(keys: list[Any], wanted: list[str]) -> list[Finding]:
    missing = [key for key in keys if key is None]
    if missing or not keys:
        saw = f"{len(missing)} of {len(keys)} rows have no `{KEY}`"
        todo = "do not use Penstock with this project; report it"
        why = "keys did not come back"
        return [
            fails("key-echo", saw, todo),
            unknown("key-text", why),
            unknown("row-order", why),
        ]
    echo = holds("key-echo", f"{len(keys)} of {len(keys)} rows have it")
    changed = [key for key in keys if key not in wanted]
    if changed:
        text = fails("key-text", f"{changed[0]!r} came back", "do not use Penstock; report it")
        return [echo, text, unknown("row-order", "keys came back as others")]
    order = "in order" if keys == sorted(keys) else "in another order than the lines"
    return [echo, holds("key-text", "each as it was sent"), holds("row-order", order)]


def _complete(found: int, wanted: int) -> Finding:
    if found == wanted:
        return holds("rows-complete", f"{found} rows for {wanted} lines")
    return fails("rows-complete", f"{found} rows for {wanted} lines", "such lines are `missing`")


def _failed(row: dict[str, Any] | None) -> Finding:
    if row is None:
        return unknown("failed-line", "it has no row with its key")
    status, response = row.get("status"), row.get("response")
    if not status and isinstance(response, dict) and response.get("candidates"):
        saw = "the line with a role that does not exist was answered"
        return warns("failed-line", saw, "nothing; this trial needs another bad line")
    code, _ = code_of(status) if isinstance(status, str) else (OTHER, False)
    if not isinstance(status, str) or not status or code == OTHER:
        saw = f"`status` is {str(status)[:120]!r}, which names no error"
        return fails("failed-line", saw, "report the text")
    return holds("failed-line", f"code {code} from {status[:60]!r}", code=code)


def _succeeded(made: Made) -> Finding:
    if made.state == "SUCCEEDED":
        return holds("failed-line-succeeds", "SUCCEEDED with a failed line")
    saw = f"ended {made.state} because of a failed line"
    return warns("failed-line-succeeds", saw, "nothing: its output is collected all the same")


def _usage(good: list[dict[str, Any]]) -> Finding:
    lacking = 0
    for row in good:
        response = row.get("response")
        usage = response.get("usageMetadata") if isinstance(response, dict) else None
        counts = usage if isinstance(usage, dict) else {}
        if not all(isinstance(counts.get(name), int) for name in _COUNTS):
            lacking += 1
    if lacking:
        saw = f"{lacking} of {len(good)} good rows have no token counts"
        return fails("usage", saw, "compare what Penstock shows with Google's bill")
    return holds("usage", f"in {len(good)} of {len(good)} good rows")


def _stats(made: Made, lines: int) -> Finding:
    stats = made.seen.get("completionStats")
    if not isinstance(stats, dict):
        return warns("stats", "absent at the end", "nothing; progress is shown without counts")
    total = count_of(made, "successfulCount") + count_of(made, "failedCount")
    if total != lines or not all(isinstance(value, str) for value in stats.values()):
        return warns("stats", str(stats)[:120], "nothing; only progress is shown by it")
    return holds("stats", f"{total} rows, as texts")
