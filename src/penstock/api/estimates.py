"""What a submission is expected to cost: its lines, its model, and earlier jobs of its owner."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.core.estimate import Estimate, estimate
from penstock.core.job import OrgId
from penstock.core.models import Model
from penstock.core.quotas import Estimates
from penstock.core.tokens import Traits
from penstock.ingest.sampling import sample_of
from penstock.store.usage import Usage


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be estimated."""

    org_id: OrgId
    model: str
    """A key of the catalogue."""
    input_path: Path
    """Of the input as it is stored, on this machine."""
    index_path: Path
    deduplicate: bool
    day: int
    """Of the submission, counted since the epoch: prices change."""


class Estimator:
    """Estimates, off the event loop."""

    def __init__(self, rules: Estimates, models: Mapping[str, Model], usage: Usage) -> None:
        self._rules = rules
        self._models = models
        self._usage = usage

    async def answer(self, question: Question) -> Estimate:
        """Return what is expected; where the price is not known, the tokens only."""
        model = self._models[question.model]
        past = await self._usage.past(question.org_id, question.model)
        traits = Traits(
            draws=model.images,
            thinks="gemini-3" in (model.provider_model or model.id) and not model.images,
            output_tokens=self._rules.output_tokens_per_line,
        )
        price = model.price_on(question.day)

        def look() -> Estimate:
            sample = sample_of(question.input_path, question.index_path, traits)
            return estimate(sample, price, past, deduplicate=question.deduplicate)

        return await asyncio.to_thread(look)
