"""`GET /metrics`: what the whole server does, for Prometheus.

Only for who has the scope `metrics:read`, which is the operator's own: the figures are over all
organisations, though none of them is named. What is asked for often is counted once in some
seconds.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.auth import Authenticator
from penstock.core.access import Scope
from penstock.core.line import LineOutcome
from penstock.core.state import TERMINAL, JobState
from penstock.core.waiting import Curve, Past, WaitingRules
from penstock.store.history import Figures, History, Pasts
from penstock.telemetry.metrics import CONTENT_TYPE, Family, Sample, render

METRICS_PATH: Final = "/metrics"
SPAN_SECONDS: Final = 86_400
"""Of what has ended, the last day is told."""

SHARES: Final = (0.5, 0.9, 0.95)


class MetricsPage:
    """The endpoint."""

    def __init__(
        self,
        history: History,
        pasts: Pasts,
        authenticator: Authenticator,
        rules: WaitingRules,
        models: Iterable[str],
    ) -> None:
        self._history = history
        self._pasts = pasts
        self._authenticator = authenticator
        self._clock = pasts.clock
        self._rules = rules
        self._models = frozenset(models)
        self._kept: tuple[float, str] | None = None
        self._counting = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(METRICS_PATH, self.get, methods=["GET"])]

    async def get(self, request: Request) -> Response:
        """Return the figures as text."""
        await self._authenticator.principal(request, Scope.METRICS_READ)
        async with self._counting:
            now = self._clock.now()
            if self._kept is None or now >= self._kept[0] + self._rules.cache_seconds:
                self._kept = (now, await self._text(now))
            return Response(self._kept[1], headers={"Content-Type": CONTENT_TYPE})

    async def _text(self, now: float) -> str:
        figures = await self._history.figures(now, SPAN_SECONDS)
        # Names that are in the catalogue only: labels must not grow with what somebody once sent.
        models = sorted(self._models & set(figures.models))
        pasts = {model: await self._pasts.of(model) for model in models}
        return render(families(figures, pasts, now))


def families(figures: Figures, pasts: Mapping[str, Past], now: float) -> list[Family]:
    """Return all that is told."""
    waits = {model: past.waits for model, past in pasts.items()}
    runs = {model: past.all_runs for model, past in pasts.items()}
    seconds = [_seconds("wait", waits), _seconds("run", runs)]
    return [*_counts(figures, now), *seconds, _jobs("wait", waits), _jobs("run", runs)]


def _counts(figures: Figures, now: float) -> list[Family]:
    is_open = [state for state in JobState if state not in TERMINAL]
    ended = [state for state in JobState if state in TERMINAL]
    ages = {state: max(0.0, now - at) for state, at in figures.oldest_at.items()}
    return [
        Family(
            name="penstock_jobs_open",
            about="Jobs that have not ended, by state.",
            samples=_each("state", is_open, figures.open_jobs),
        ),
        Family(
            name="penstock_oldest_job_seconds",
            about="Since the beginning of the oldest open job that is in the state, or 0.",
            samples=_each("state", is_open, ages),
        ),
        Family(
            name="penstock_jobs_slow",
            about="Open jobs that take longer than 95 of 100 others of their model did.",
            samples=(Sample(value=figures.slow_jobs),),
        ),
        Family(
            name="penstock_day_jobs_ended",
            about="Jobs that ended in the last 24 hours, by how.",
            samples=_each("state", ended, figures.ended_jobs),
        ),
        Family(
            name="penstock_day_lines_ended",
            about="Lines of the jobs that ended in the last 24 hours, by what became of them.",
            samples=_each("outcome", list(LineOutcome), figures.outcomes),
        ),
        Family(
            name="penstock_deliveries_pending",
            about="Events that webhooks are still to be told of.",
            samples=(Sample(value=figures.deliveries),),
        ),
    ]


def _each(label: str, names: Iterable[str], values: Mapping[str, float]) -> tuple[Sample, ...]:
    """Return a value for each name; one that is not there is zero, and not absent."""
    return tuple(
        Sample(value=values.get(str(name), 0), labels={label: str(name)}) for name in names
    )


def _seconds(what: str, curves: Mapping[str, Curve]) -> Family:
    does = "waited until the provider ran them" if what == "wait" else "ran to their end"
    quantiles = (
        Sample(value=seconds, labels={"model": model, "quantile": str(share)})
        for model, curve in curves.items()
        for share in SHARES
        if (seconds := curve.percentile(share)) is not None
    )
    return Family(
        name=f"penstock_{what}_seconds",
        about=f"How long the last jobs of the model {does}; open ones count as long as so far.",
        samples=tuple(quantiles),
    )


def _jobs(what: str, curves: Mapping[str, Curve]) -> Family:
    return Family(
        name=f"penstock_{what}_jobs",
        about=f"Jobs of the model of which penstock_{what}_seconds is made.",
        samples=tuple(
            Sample(value=curve.count, labels={"model": model}) for model, curve in curves.items()
        ),
    )
