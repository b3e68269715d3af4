"""The run that costs some cents: what it may cost at the most, its order, and what it leaves."""

import msgspec

from penstock import __version__
from penstock.core.models import Model, Price
from penstock.core.money import micro_from_pico
from penstock.doctor import (
    trial_creates,
    trial_endings,
    trial_lists,
    trial_rows,
    trial_storage,
)
from penstock.doctor.check import Finding, unknown
from penstock.doctor.lab import Lab, Made, Pace, Told
from penstock.doctor.trial_lines import cancel_lines, importer_lines, main_lines
from penstock.errors import ConfigurationError, PenstockError, ProviderError

OUTPUT_TOKENS_CHARGED_MAX = 2_048
"""For which each line is counted in the bound, although it asks for 64 at most."""

PROMPT_TOKENS_MORE = 64
"""No token is shorter than a byte; beside the text there are some for its frame."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has found; it names neither the project nor the bucket."""

    penstock: str
    day: str
    model: str
    location: str
    emulator: bool
    """Whether an emulator answered: then it says nothing about Google."""
    seconds: float
    bound_micro_dollars: int
    results: dict[str, str]
    """By assumption: holds, warns, fails or unknown."""


def cheapest(models: dict[str, Model], location: str) -> Model | None:
    """Return the model that a run costs least with, among those that it can run on there."""

    def price_of(model: Model) -> tuple[int, str]:
        return (model.price.output if model.price else 0, model.id)

    able = [
        model
        for model in models.values()
        if model.price is not None
        and not model.images
        and (location in {"", "global"} or not model.id.startswith("gemini-3"))
    ]
    return min(able, key=price_of, default=None)


def bound_micro_dollars(model: Model) -> int:
    """Return what all lines of a run cost at the very most, at the price without a batch.

    Raises `ConfigurationError` for a model whose price is not known.
    """
    price: Price | None = model.price
    if price is None:
        raise ConfigurationError(
            f"The price of {model.id} is not known, so there is no bound for what it would cost.",
            hint="Take a model with a price: --model, see docs/settings.md.",
        )
    price = price.online or price
    run = "0" * 8
    lines = [*main_lines(run), *importer_lines(run), *cancel_lines(run)]
    prompts = sum(len(msgspec.json.encode(line)) + PROMPT_TOKENS_MORE for line in lines)
    answers = len(lines) * OUTPUT_TOKENS_CHARGED_MAX
    return micro_from_pico(prompts * price.input + answers * price.output) + 1


async def run(lab: Lab, model: str, location: str, pace: Pace, tell: Told) -> list[Finding]:
    """Make all trials and clean up behind them, however far they came.

    Raises `ConfigurationError` if another run is going on; then nothing was done.
    """
    await lab.mark(model, location)
    findings: list[Finding] = []
    try:
        await _trials(lab, model, location, pace, _Telling(tell, findings))
    except PenstockError as error:
        findings.append(unknown("run", f"it ended early: {error.message}"))
    finally:
        tell("cleaning up")
        problems = await lab.clean(location)
    if problems:
        todo = "penstock doctor --vertex --clean"
        findings.append(unknown("clean-up", f"not everything is gone: {problems[0]}", todo))
    return findings


class _Telling:
    """Keeps what is found and says what is done."""

    def __init__(self, tell: Told, findings: list[Finding]) -> None:
        self.say = tell
        self._findings = findings

    def add(self, *found: Finding) -> None:
        """Keep findings."""
        self._findings.extend(found)


async def _trials(lab: Lab, model: str, location: str, pace: Pace, to: _Telling) -> None:
    to.say("writing to the bucket")
    to.add(*await trial_storage.storage(lab))
    to.say("creates that must be refused")
    to.add(*await trial_creates.refusals(lab, model, location))
    to.say("creating jobs")
    main = await lab.put("main", main_lines(lab.run))
    importer = await lab.put("importer", importer_lines(lab.run))
    cancel = await lab.put("cancel", cancel_lines(lab.run))
    gone = lab.bucket.uri(f"{lab.folder}/in/gone.jsonl")
    # The cancelled one first: the sooner it is cancelled, the less it can cost.
    cancelled = await lab.create("cancel", model, location, cancel)
    await _cancel(lab, cancelled)
    inputs = {"gone": gone, "again": gone, "importer": importer, "main": main}
    for name, input_uri in inputs.items():
        await lab.create(name, model, location, input_uri)
    to.say("listing them")
    to.add(*await trial_lists.listing(lab, location, pace.list_seconds))
    to.add(trial_creates.twice(lab))
    await lab.wait(pace, to.say)
    output, found = await trial_rows.output_of(lab)
    to.add(*found)
    if output is not None:
        to.add(*trial_rows.rows(lab, output))
    to.add(*trial_endings.endings(lab))
    to.add(await trial_endings.cancel_ended(lab))
    if output is not None:
        to.add(await trial_rows.output_final(lab, output))
    else:
        to.add(unknown("output-final", "the job has no output"))


async def _cancel(lab: Lab, made: Made) -> None:
    if made.created is None:
        return
    try:
        await lab.provider.cancel(made.created.name)
    except ProviderError as error:
        # Its end tells the rest; the other trials need not wait for it.
        made.problem = error.message


def report_of(findings: list[Finding], **about: object) -> Report:
    """Return what can be pasted into docs/verified.md."""
    results = {finding.check: str(finding.verdict) for finding in findings}
    return msgspec.convert({"penstock": __version__, "results": results, **about}, Report)
