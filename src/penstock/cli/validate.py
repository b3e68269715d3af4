"""`penstock validate`: what would become of a file, before anything is stored or spent.

With `--local` no server is asked: the same rules, read from this installation, without the cost.
"""

import sys
from typing import Any

import click

from penstock.cli.failure import PROBLEMS_SHOWN_MAX, ExitCode, Failure, Place, clean, located
from penstock.cli.jobs import DEFAULT_MODEL, Server, connected
from penstock.cli.local_check import check_locally
from penstock.cli.progress import Progress
from penstock.cli.submit_options import chosen, job_options
from penstock.client import Estimate, Finding, Validation


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Who would answer.")
@click.option("--local", is_flag=True, help="Ask no server: the rules alone, with their defaults.")
@job_options
@connected
def validate(
    server: Server,
    *,
    file: str,
    model: str,
    local: bool,
    **terms: Any,  # noqa: ANN401  # options of click that go to the client as they are
) -> None:
    """Judge FILE, one JSON request per line ("-" reads standard input), and keep nothing of it.

    Shows what is wrong with which line, what would be changed on the provider's copy, which lines
    are the same, and what the job is expected to cost. Ends with 6 if it would be refused.

    \b
    Examples:
      penstock validate reviews.jsonl
      penstock validate reviews.jsonl --max-cost 5 --json
      penstock validate reviews.jsonl --local
    """  # noqa: D301  # \b is click's mark for lines that are not to be wrapped
    name = "standard input" if file == "-" else file
    options = chosen(terms)
    if local:
        found = check_locally(file, quarantine=options.get("on_invalid") == "quarantine")
    else:
        found = _ask(server, file, name, {"model": model, **options})
    server.show(found, sheet(found, name))
    if not found.valid:
        raise _refused(found)


def _ask(server: Server, file: str, name: str, terms: dict[str, Any]) -> Validation:
    progress = Progress()
    source = sys.stdin.buffer if file == "-" else file
    try:
        with server.client(name) as client:
            return client.validate(
                source,
                on_progress=lambda done, total: progress.transfer("sent", done, total),
                **terms,
            )
    finally:
        progress.close()


def sheet(found: Validation, file: str) -> list[str]:
    """Return the report in lines: problems first, then what is good to know, then the cost."""
    lines = [
        line
        for problem in found.problems[:PROBLEMS_SHOWN_MAX]
        for line in Place(file, problem.line, problem.column).lines(
            f"{problem.code}: {located(problem.message, problem.path)}",
            problem.excerpt,
            problem.hint,
        )
    ]
    shown = min(len(found.problems), PROBLEMS_SHOWN_MAX)
    if found.problem_count > shown:
        lines.append(f"… and {found.problem_count - shown:,} more")
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


def _refused(found: Validation) -> Failure:
    if found.refusal is not None:
        return Failure(
            found.refusal.message,
            code=found.refusal.code,
            exit_code=ExitCode.LIMIT,
            fix=found.refusal.hint,
        )
    return Failure(
        f"{found.problem_count:,} of {found.line_count:,} requests are invalid",
        code="invalid_input",
        exit_code=ExitCode.INPUT_INVALID,
        fix="mend the lines above; submit --quarantine runs the others without them",
    )
