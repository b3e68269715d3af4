"""`penstock validate`: what would become of a file, before anything is stored or spent.

With `--local` no server is asked: the same rules, read from this installation, without the cost.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.command import command
from penstock.cli.connection import Server, connected
from penstock.cli.ends import shown
from penstock.cli.failure import ExitCode, Failure, first_places
from penstock.cli.stdin import standard_input
from penstock.cli.submit_options import DEFAULT_MODEL, chosen, job_options
from penstock.client.screen import clean

if TYPE_CHECKING:
    from penstock.client import Api, Estimate, Finding, Validation


@command()
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Who would answer.")
@click.option("--local", is_flag=True, help="Ask no server: the rules alone, with their defaults.")
@job_options
@connected
def validate(
    server: Server,
    *,
    files: tuple[str, ...],
    model: str,
    local: bool,
    **terms: Any,  # noqa: ANN401  # options of click that go to the client as they are
) -> None:
    """Judge each FILE, one JSON request per line ("-" reads standard input), and keep nothing.

    Shows what is wrong with which line, what would be changed on the provider's copy, which lines
    are the same, and what the job is expected to cost. Ends with 6 if one would be refused. With
    --json there is one report, or of several files a list.

    \b
    Examples:
      penstock validate reviews.jsonl
      penstock validate *.jsonl --local
      penstock validate reviews.jsonl --max-cost 5 --json
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    options = chosen(terms)
    found: list[Validation] = []
    names = ["standard input" if file == "-" else file for file in files]
    with nullcontext() if local else server.client(", ".join(names)) as client:
        for file, name in zip(files, names, strict=True):
            if client is None:
                found.append(_alone(file, options))
            else:
                found.append(judged(server, client, file, {"model": model, **options}))
            if not server.as_json:
                heading = [f"{clean(name)}:"] if len(files) > 1 else []
                server.show(None, server.sheet([*heading, *report(found[-1], name)]))
    if server.as_json:
        server.show(found if len(found) > 1 else found[0], [])
    bad = [(one, name) for one, name in zip(found, names, strict=True) if not one.valid]
    if bad:
        raise refusal(bad[0][0], bad[0][1] if len(found) > 1 else "")


def judged(server: Server, client: Api, file: str, terms: dict[str, Any]) -> Validation:
    """Have the server judge a file, of which it keeps nothing."""
    source = standard_input() if file == "-" else file
    with shown(server, "interrupted; nothing was created") as progress:
        return client.validate(
            source,
            on_progress=lambda done, total: progress.transfer("judged", done, total),
            **terms,
        )


def _alone(file: str, options: dict[str, Any]) -> Validation:
    from penstock.cli.local_check import (  # noqa: PLC0415  # lazy: the rules take long to load
        check_locally,
    )

    return check_locally(file, quarantine=options.get("on_invalid") == "quarantine")


def report(found: Validation, file: str) -> list[str]:
    """Return the report in lines: problems first, then what is good to know, then the cost."""
    lines = first_places(file, found.problems, found.problem_count, names_codes=True)
    lines.append(
        f"{found.line_count:,} requests, {found.input_bytes:,} bytes; "
        f"{found.problem_count:,} invalid"
    )
    lines += _findings("warning", found.warnings)
    lines += _findings("changed on the provider's copy", found.normalisations)
    if found.duplicates.lines:
        same = found.duplicates.largest[0] if found.duplicates.largest else None
        where = "" if same is None else f", such as lines {_numbers(same.first_lines)}"
        lines.append(
            f"duplicates: {found.duplicates.lines:,} lines repeat the request of another{where}"
        )
    if found.unread_lines:
        lines.append(f"not looked at beyond the rules: {found.unread_lines:,} lines over 1 MiB")
    return lines + _cost(found.estimate)


def _findings(kind: str, findings: list[Finding]) -> list[str]:
    return [
        f"{kind}: {clean(one.message)} ({one.code}: {one.lines:,} lines, first {one.first_line})"
        for one in findings
    ]


def _numbers(numbers: list[int]) -> str:
    return ", ".join(f"{number:,}" for number in numbers)


def _cost(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return []
    prompt, output = estimate.prompt_tokens, estimate.output_tokens
    tokens_in = f"{prompt.expected:,} tokens in ({prompt.low:,} to {prompt.high:,})"
    tokens_out = f"{output.expected:,} out ({output.low:,} to {output.high:,})"
    lines = [f"expected: {tokens_in}, {tokens_out}"]
    cost = estimate.cost_usd
    if cost is None:
        lines.append("cost: the price of this model is not known")
    else:
        online = f"; ${estimate.online_cost_usd} online" if estimate.online_cost_usd else ""
        lines.append(f"cost: ${cost.expected} (${cost.low} to ${cost.high}){online}")
    return [*lines, clean(estimate.basis)] if estimate.basis else lines


def refusal(found: Validation, name: str = "") -> Failure:
    """Return why a file would be refused."""
    where = f"{name}: " if name else ""
    if found.refusal is not None:
        return Failure(
            where + found.refusal.message,
            code=found.refusal.code,
            exit_code=ExitCode.LIMIT,
            fix=found.refusal.hint,
        )
    return Failure(
        f"{where}{found.problem_count:,} of {found.line_count:,} requests are invalid",
        code="invalid_input",
        exit_code=ExitCode.INPUT_INVALID,
        fix="mend the lines above; submit --quarantine runs the others without them",
    )
