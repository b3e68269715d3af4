"""The emulator's own API under /emulator/v1: rules, jobs, buckets, clock."""

from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.emulator.database import Database
from penstock.emulator.faults import Faults
from penstock.emulator.job_record import shown
from penstock.emulator.job_run import witness_path
from penstock.emulator.jobs import JobEngine
from penstock.emulator.named import BadRule, catalogue, parse_mix, parse_rule
from penstock.emulator.refusals import json_response
from penstock.emulator.scripts import Scripts, parse_script
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.timestamps import EmulatorClock, rfc3339


class _Advance(msgspec.Struct, forbid_unknown_fields=True):
    advance_seconds: float


class ControlApi:
    """What tests and checkers call. No credentials: it is for the machine it runs on."""

    def __init__(
        self,
        settings: EmulatorSettings,
        database: Database,
        engine: JobEngine,
        faults: Faults,
        clock: EmulatorClock,
    ) -> None:
        self._settings = settings
        self._database = database
        self._engine = engine
        self._faults = faults
        self._scripts = Scripts(database)
        self._clock = clock

    def routes(self) -> list[Route]:
        """The routes of this API."""
        return [
            Route("/emulator/v1/rules", self.add_rule, methods=["POST"]),
            Route("/emulator/v1/rules", self.list_rules, methods=["GET"]),
            Route("/emulator/v1/rules", self.remove_rules, methods=["DELETE"]),
            Route("/emulator/v1/rules/{id}", self.show_rule, methods=["GET"]),
            Route("/emulator/v1/rules/{id}", self.remove_rules, methods=["DELETE"]),
            Route("/emulator/v1/mix", self.add_mix, methods=["POST"]),
            Route("/emulator/v1/faults", self.list_faults, methods=["GET"]),
            Route("/emulator/v1/hits", self.list_hits, methods=["GET"]),
            Route("/emulator/v1/scripts", self.add_script, methods=["POST"]),
            Route("/emulator/v1/scripts", self.list_scripts, methods=["GET"]),
            Route("/emulator/v1/scripts", self.remove_scripts, methods=["DELETE"]),
            Route("/emulator/v1/jobs", self.list_jobs, methods=["GET"]),
            Route("/emulator/v1/jobs/{id}/rows", self.list_rows, methods=["GET"]),
            Route("/emulator/v1/clock", self.advance_clock, methods=["POST"]),
            Route("/emulator/v1/clock", self.show_clock, methods=["GET"]),
        ]

    async def add_rule(self, request: Request) -> Response:
        """Make a rule; 400 with the reason if the body is not one."""
        try:
            return _json(self._faults.add(parse_rule(await request.body())))
        except (BadRule, OverflowError) as error:
            return json_response({"error": str(error)}, status=400)

    async def add_mix(self, request: Request) -> Response:
        """Make one rule for each fault of a mix, all with one seed; 400 if the body is none."""
        try:
            rules = [self._faults.add(rule) for rule in parse_mix(await request.body())]
        except (BadRule, OverflowError) as error:
            return json_response({"error": str(error)}, status=400)
        return _json({"rules": rules})

    async def list_faults(self, request: Request) -> Response:
        """Every fault that has a name, with its calls and parameters."""
        del request
        return json_response({"faults": catalogue()})

    async def list_hits(self, request: Request) -> Response:
        """What was struck, oldest first; `?rule=` for one rule."""
        hits = self._faults.hits(request.query_params.get("rule"))
        return json_response({"hits": [hit._asdict() for hit in hits]})

    async def list_rows(self, request: Request) -> Response:
        """What every row of a job cost, and what output faults did to it."""
        job_id = request.path_params["id"]
        if not job_id.isdigit():
            return json_response({"error": "no such job"}, status=404)
        path = witness_path(self._settings.data_dir, job_id)
        if not path.exists():
            return json_response({"error": "no output fault struck this job"}, status=404)
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return json_response({"rows": rows})

    async def list_rules(self, request: Request) -> Response:
        """All rules with their uses."""
        del request
        return _json({"rules": self._faults.rules()})

    async def show_rule(self, request: Request) -> Response:
        """One rule."""
        wanted = request.path_params["id"]
        for rule in self._faults.rules():
            if rule.id == wanted:
                return _json(rule)
        return json_response({"error": "no such rule"}, status=404)

    async def remove_rules(self, request: Request) -> Response:
        """Remove one rule, or all of them."""
        wanted = request.path_params.get("id")
        removed = self._faults.remove(wanted)
        if wanted is not None and not removed:
            return json_response({"error": "no such rule"}, status=404)
        return json_response({"removed": removed})

    async def add_script(self, request: Request) -> Response:
        """Say what requests with a text are to get; 400 with the reason if the body does not."""
        try:
            return _json(self._scripts.add(parse_script(await request.body())))
        except (BadRule, OverflowError) as error:
            return json_response({"error": str(error)}, status=400)

    async def list_scripts(self, request: Request) -> Response:
        """All scripts."""
        del request
        return _json({"scripts": self._scripts.all()})

    async def remove_scripts(self, request: Request) -> Response:
        """Remove all scripts."""
        del request
        return json_response({"removed": self._scripts.clear()})

    async def list_jobs(self, request: Request) -> Response:
        """Every job with what the wire does not show, and how often each call arrived."""
        del request
        self._engine.look()
        counters = self._database.counters()
        calls = {k.removeprefix("calls_"): v for k, v in counters.items() if "calls_" in k}
        jobs: list[dict[str, Any]] = [
            {
                **shown(job, self._settings.project_number),
                "id": job.id,
                "lines": job.lines,
                "usage": job.usage,
                "landed": job.landed,
            }
            for job in self._engine.jobs(include_lost=True)
        ]
        return json_response(
            {"jobs": jobs, "calls": calls, "jobsMade": counters.get("jobs_made", 0)}
        )

    async def advance_clock(self, request: Request) -> Response:
        """Move the emulator's clock forward; 400 for anything but a number of seconds >= 0."""
        try:
            body = msgspec.json.decode(await request.body(), type=_Advance)
        except msgspec.DecodeError as error:
            return json_response({"error": str(error)}, status=400)
        if body.advance_seconds < 0:
            return json_response({"error": "the clock only moves forward"}, status=400)
        now_us = self._clock.advance(body.advance_seconds)
        self._engine.look()
        return json_response({"now": rfc3339(now_us)})

    async def show_clock(self, request: Request) -> Response:
        """What time the emulator thinks it is."""
        del request
        return json_response({"now": rfc3339(self._clock.now_us())})


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
