"""What Penstock assumes about Google, what rests on it, and how anybody can find out.

docs/verified.md shows the same texts; a test holds the two equal. The sources are the sections of
reference/wire.md: discovery documents, Google's pages, and captures that others have published.
"""

from typing import Final, Literal

import msgspec

How = Literal["doctor", "spend", "emulator", "documented"]

HOW: Final[dict[How, str]] = {
    "doctor": "`penstock doctor --vertex`, free",
    "spend": "`penstock doctor --vertex --spend`",
    "emulator": "against the emulator and the simulator only: it cannot be provoked on purpose",
    "documented": "by Google's documents only",
}


class Assumption(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that would have to be true."""

    id: str
    assumes: str
    rests: str
    """Which promise, or which part of the code, would not hold without it."""
    how: How
    source: str
    if_not: str
    """What happens then, and what to do."""


def _one(id_: str, how: How, source: str, *texts: str) -> Assumption:
    assumes, rests, if_not = texts
    return Assumption(id=id_, assumes=assumes, rests=rests, how=how, source=source, if_not=if_not)


_CREATE: Final = (
    _one(
        "create-not-idempotent",
        "spend",
        "discovery document: a create takes nothing but its parent",
        "The same create sent twice makes two jobs.",
        "Paid once: why a create is one POST that nobody repeats, and an unclear one is "
        "reconciled.",
        "Nothing breaks: the protocol is then more careful than it must be.",
    ),
    _one(
        "create-refused",
        "spend",
        "published captures (unknown model, malformed request)",
        "A create that is answered with 400 or 404 has made no job.",
        "Paid once: such an answer ends the job as failed, and nobody looks for it any more.",
        "A refused job could run and be paid without anybody knowing. Report it; until then watch "
        "the list of batch jobs in Google's console.",
    ),
    _one(
        "create-unknown-member",
        "spend",
        "Google's JSON front ends refuse members that a message does not have",
        "A create with a member that Vertex does not know is refused.",
        "That our labels were understood and not dropped; `labels-kept` looks at it directly.",
        "Nothing breaks, as long as `labels-kept` holds.",
    ),
    _one(
        "regional-refused",
        "spend",
        "four published captures; the model's page names `global` alone",
        "Gemini 3 is refused for batches at any location but `global`.",
        "The catalogue's locations, and what `penstock doctor --vertex` says about "
        "vertex.location.",
        "More is possible than the catalogue says: set vertex.location, at the regional price.",
    ),
    _one(
        "create-forbidden",
        "documented",
        "published captures of 403 PERMISSION_DENIED",
        "A create that is answered with 401 or 403 has made no job.",
        "Paid once: the job waits until the rights are there, and is then created.",
        "As with `create-refused`.",
    ),
    _one(
        "create-late",
        "emulator",
        "none; Google says nothing about it",
        "A create whose answer was lost takes effect within settle_seconds (180) of its intent, or "
        "finds no input after the fence.",
        "Paid once: `settle`, then the fence, then a new attempt (docs/reliability.md).",
        "A create that lands later and still finds an input would be paid twice; it is found at "
        "the next poll, cancelled and not billed. Raise timing.settle_seconds.",
    ),
    _one(
        "create-unclear",
        "emulator",
        "Google's advice to retry 429 and 5xx does not say whether they had an effect",
        "After 429, 5xx, a cut or a timeout a create may or may not have made a job.",
        "Paid once: these are looked up in the list, never sent again.",
        "Nothing breaks: it is the careful reading.",
    ),
)
_LIST: Final = (
    _one(
        "one-job",
        "spend",
        "none; it goes without saying",
        "One create makes one job.",
        "Paid once. Penstock lists its label once more after each create, keeps one job and "
        "cancels "
        "others.",
        "The second job may have run for a few seconds before it is cancelled; it is never billed "
        "to a tenant, but Google may charge what it did.",
    ),
    _one(
        "labels-kept",
        "spend",
        "discovery document: `labels` of BatchPredictionJob",
        "A job tells the labels and the display name that it was created with.",
        "Paid once: a job is found again by them.",
        "A job whose answer was lost is not found, so that a second one is made: paid twice. Do "
        "not "
        "use Penstock with this project until it is mended.",
    ),
    _one(
        "label-filter",
        "spend",
        "discovery document: `labels.k=v` in the list's filter; nobody has published it for Gemini",
        "A list filtered by a label gives all jobs with it, and only those.",
        "Paid once. Penstock compares the label itself, too, and reads 2,000 jobs at most.",
        "If others come as well, only lists of more than 2,000 jobs are too long, and then "
        "submission waits. If ours is missing: as with `labels-kept`.",
    ),
    _one(
        "list-lag",
        "spend",
        "none; Google does not say how fresh a list is",
        "A new job is in the list within fence_seconds (30).",
        "Paid once: how long reconciliation waits before it believes that there is no job.",
        "Raise timing.fence_seconds above what the doctor measured. The input was taken away by "
        "then, so a job that is listed later fails without cost (`input-gone`).",
    ),
    _one(
        "list-order",
        "spend",
        "none; samples show the newest first",
        "The newest jobs are listed first.",
        "Nothing while `label-filter` holds; without it, that ours are among the first 2,000.",
        "Only together with a filter that is ignored: then submission waits.",
    ),
    _one(
        "name-by-number",
        "spend",
        "published answers: `name` carries the project's number",
        "A job's name may carry the number of the project; its last part identifies it.",
        "Polling, cancelling and adopting: names are made again from that part.",
        "Jobs would be polled at an address that does not exist, and fail after lost_seconds.",
    ),
    _one(
        "get-unknown",
        "doctor",
        "published captures",
        "Asking for a job that does not exist is answered with 404.",
        "A job that Google has lost is given up after lost_seconds (900), and not before.",
        "A lost job would be waited for until it is cancelled.",
    ),
    _one(
        "states-known",
        "spend",
        "discovery document: the enumeration of states",
        "Jobs are in none but the states of the discovery document, and end in one of five.",
        "One end for each job. A state that nobody knows is reported, and polling goes on.",
        "A job that ends in a new state is waited for until somebody cancels it.",
    ),
)
_INPUT: Final = (
    _one(
        "input-gone",
        "spend",
        "published captures of code 3 and 9; none for this very case",
        "A create whose input does not exist is taken, and its job fails without doing anything.",
        "Paid once: the fence takes the input away, so that a late create costs nothing.",
        "A late create could be paid twice. Raise timing.settle_seconds, so that none is late.",
    ),
    _one(
        "input-read",
        "emulator",
        "none",
        "A job reads its input when it begins, and is not harmed when it is removed later.",
        "That the fence makes a job either fail free or finish whole.",
        "A job could end in part; lines without a row are delivered as `missing`, not billed, and "
        "can be sent again.",
    ),
    _one(
        "importer",
        "spend",
        "published captures, counted in somebody's production",
        "A line that a table cannot hold (here a key `$ref`) fails the whole job with code 3, "
        "before "
        "any line is answered.",
        "What is mended and refused before a job is sent (docs/preflight.md).",
        "Penstock refuses lines that Google would take by now. Report it.",
    ),
    _one(
        "limits",
        "documented",
        "Google's overview page, 2026-09-03",
        "A job has at most 200,000 lines and 1 GB of input.",
        "Where a large file is cut into shards.",
        "Lower limits: jobs fail before they begin, without cost; lower limits.provider_… to "
        "match.",
    ),
)
_ROWS: Final = (
    _one(
        "key-echo",
        "spend",
        "three published captures; undocumented for Cloud Storage",
        "A member `key` beside `request` comes back in the row of that line, in failed rows, too.",
        "Line i of the output answers line i of the input: rows are matched by it alone.",
        "All lines would be `missing`: nothing wrong is delivered, but nothing right either. Do "
        "not "
        "use Penstock with this project until it is mended.",
    ),
    _one(
        "key-text",
        "spend",
        "published captures of `000000` becoming 0",
        "A key that begins with a letter comes back as the same text.",
        "The same: a key that is re-typed would match no line.",
        "As with `key-echo`.",
    ),
    _one(
        "row-order",
        "spend",
        "a published capture: 5 lines came back as 3, 2, 1, 5, 4",
        "Rows come in any order.",
        "Nothing: the output is put into the order of the input in any case.",
        "Nothing.",
    ),
    _one(
        "rows-complete",
        "spend",
        "Google's documents",
        "A job that ends well has one row for each line.",
        "That `missing` and doubled rows are rare. Each is counted, and told on its own line.",
        "Lines are delivered as `missing`, not billed, and can be sent again.",
    ),
    _one(
        "failed-line",
        "spend",
        "a sample of Google's page, and published captures",
        "A line that fails has a text in `status` that begins with its kind and holds the error as "
        "JSON, and no candidates.",
        "The outcome, the code and the advice on each failed line; what a retry policy chooses.",
        "Such lines are `error` without a code, and a retry by code does not find them.",
    ),
    _one(
        "failed-line-succeeds",
        "spend",
        "published captures",
        "A job with failed lines ends SUCCEEDED.",
        "That outputs of jobs with failed lines are collected; after other ends they are, too.",
        "Nothing is lost: what was written is collected after any end.",
    ),
    _one(
        "output-folder",
        "spend",
        "many published paths",
        "The output lies in a folder below our prefix, which outputInfo names.",
        "Where rows are read from. A folder elsewhere would not be read.",
        "Jobs end with all lines `missing`, and the detail says where the output was not.",
    ),
    _one(
        "output-files",
        "spend",
        "every published listing has this one file; shards occur in code only",
        "Rows are in `predictions.jsonl`, or in shards of that name.",
        "Which files are read; others, such as `incremental_…`, are passed over.",
        "Rows in files of another name are `missing`. Report the name.",
    ),
    _one(
        "output-final",
        "spend",
        "none",
        "When a job has ended, its output does not change any more.",
        "That no finished row is taken for a missing one. Penstock reads again while it may grow.",
        "Lines that came too late are `missing`, and were paid; they can be sent again.",
    ),
    _one(
        "usage",
        "spend",
        "a sample of Google's page; totalTokenCount is sometimes missing",
        "Good rows have usageMetadata with the tokens of prompt and answer.",
        "What a job cost, and the budgets of tenants.",
        "Such rows count as free; the operator pays Google's bill all the same. Compare both.",
    ),
    _one(
        "stats",
        "spend",
        "discovery document: int64 as text, zero counts absent",
        "completionStats counts the rows of a job as texts, and is absent before there are any.",
        "Nothing but what is shown as progress.",
        "Progress is wrong or absent; the output is not.",
    ),
    _one(
        "partial-export",
        "documented",
        "Google's page: completed rows are continuously exported",
        "Finished rows are in the output while the job runs.",
        "Partial results (docs/partial.md).",
        "Partial results stay empty until the end.",
    ),
)
_ENDS: Final = (
    _one(
        "cancel",
        "spend",
        "published captures, of waiting jobs",
        "A cancelled job ends: CANCELLED, or as it would have ended if it was that far.",
        "That a cancel comes to an end, and what was finished is delivered.",
        "A cancel is asked for again until the job ends by itself; what it does until then is "
        "paid.",
    ),
    _one(
        "cancel-ended",
        "spend",
        "published captures: 400 FAILED_PRECONDITION",
        "A cancel of a job that has ended changes nothing.",
        "That a cancel may be repeated.",
        "A finished job could lose its output; Penstock does not cancel what it knows to have "
        "ended.",
    ),
    _one(
        "expiry",
        "documented",
        "Google's overview page",
        "A job waits for 72 hours at most and runs for 24.",
        "`expired` lines, and how long a job may take.",
        "Penstock cancels by its own clock then, so nothing waits for ever.",
    ),
    _one(
        "charges",
        "documented",
        "Google's pages; one measured case for failed lines",
        "Rows with an answer are charged at the batch price of the model, by their usageMetadata; "
        "failed and unfinished ones are not.",
        "Each amount of money that Penstock shows.",
        "Penstock's amounts differ from Google's bill. Compare them each month; prices can be set.",
    ),
)
_STORAGE: Final = (
    _one(
        "storage-checksum",
        "spend",
        "Cloud Storage's documents",
        "Cloud Storage states size and CRC32C of what was written, and they are those of the "
        "bytes.",
        "Inputs arrive whole, and outputs are read whole.",
        "No job is submitted: each upload counts as corrupt.",
    ),
    _one(
        "storage-consistent",
        "spend",
        "Cloud Storage's documents",
        "What was written is listed at once, and what was deleted is gone at once.",
        "Paid once: the fence; and that no part of an output is overlooked.",
        "The fence would be too early by the delay: raise timing.fence_seconds above it.",
    ),
    _one(
        "service-agent",
        "spend",
        "Google's documents and published captures",
        "The Vertex service agent of the project reads the input and writes the output, not the "
        "caller.",
        "Whose rights the set-up asks for.",
        "Grant the rights that the failed job's message names.",
    ),
)
ASSUMPTIONS: Final = (*_CREATE, *_LIST, *_INPUT, *_ROWS, *_ENDS, *_STORAGE)
BY_ID: Final = {each.id: each for each in ASSUMPTIONS}


def block(assumption: Assumption) -> str:
    """Return how docs/verified.md shows an assumption, but for when it was verified."""
    return (
        f"### `{assumption.id}`\n\n"
        f"{assumption.assumes}\n\n"
        f"- Rests on it: {assumption.rests}\n"
        f"- If it does not hold: {assumption.if_not}\n"
        f"- Known from: {assumption.source}.\n"
        f"- Verified: {HOW[assumption.how]}.\n"
    )
