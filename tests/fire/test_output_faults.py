"""Whatever is wrong with the provider's output, N lines go out, each an answer or a typed error."""

import random

import pytest
from tests.fire.driver import check_money, check_output, fire, lines_of, rules, under, witness_rows
from tests.journeys.service import Json, Service

pytestmark = pytest.mark.slow

LINES = 12
MISSING, CORRUPT, DOUBLE = {"missing_row"}, {"corrupt_row"}, {"duplicate_row"}
# fault, its parameters, and what the lines say whose rows it struck; "" is an answer.
FAULTS: list[tuple[str, Json, set[str]]] = [
    ("missing-rows", {}, MISSING),
    ("empty-shard", {}, MISSING),
    ("missing-shard", {}, MISSING),
    ("duplicate-rows", {}, {""}),
    ("conflicting-rows", {}, DOUBLE),
    ("foreign-rows", {}, {""}),
    ("foreign-rows", {"replace": True}, MISSING),
    ("unordered", {}, {""}),
    ("truncated-line", {}, {"corrupt_row", "missing_row"}),
    ("invalid-json", {}, {"corrupt_row", "missing_row"}),
    ("invalid-utf8", {}, CORRUPT),
    ("huge-row", {"row_bytes": 50_000_000}, {""}),
    ("bad-usage", {"share": 0.5}, CORRUPT),
    ("no-usage", {}, {""}),
    ("growing", {}, {""}),
]


@pytest.mark.parametrize(("fault", "parameters", "said"), FAULTS)
def test_an_output_fault_costs_its_own_lines_and_no_other(
    service: Service, fault: str, parameters: Json, said: set[str]
) -> None:
    """Struck lines say what is wrong, all others have their answers, and only these are billed."""
    lines = lines_of(LINES, fault)
    with under(service, f"output-{fault}", times=1, parameters=parameters):
        record = service.wait(service.submit(lines)["request_id"])
        assert record["status"] == "success", record
        codes = check_output(service, record, lines)
        check_money(service, record, codes)
    rows = witness_rows(service, record)
    struck = [code for n, code in enumerate(codes, start=1) if rows[n]["faults"]]
    spared = [code for n, code in enumerate(codes, start=1) if not rows[n]["faults"]]
    assert set(spared) <= {""}
    assert set(struck) <= said
    assert struck or fault in {"unordered", "growing"}


def test_an_output_that_never_comes_fails_the_job(service: Service) -> None:
    """Without any file each line says so, however often the provider says SUCCEEDED."""
    lines = lines_of(LINES)
    with under(service, "output-none", times=1):
        record = service.wait(service.submit(lines)["request_id"])
        codes = check_output(service, record, lines)
    assert record["status"] == "failed"
    assert record["outcome"]["error"]["code"] == "provider_output_unreadable"
    assert set(codes) == {"provider_output_unreadable"}


def test_the_claims_of_the_provider_are_not_believed(service: Service) -> None:
    """Counts that the provider invents change nothing: what was read is counted."""
    lines = lines_of(LINES)
    with under(service, "wrong-stats"), under(service, "output-missing-rows", times=1):
        record = service.wait(service.submit(lines)["request_id"])
        codes = check_output(service, record, lines)
    check_money(service, record, codes)
    assert codes.count("missing_row") == 3


def test_a_partial_success_that_lacks_nothing_is_a_success(service: Service) -> None:
    """The state too is what was read: all rows are there, so the job has succeeded."""
    lines = lines_of(LINES)
    with under(service, "end-partially-succeeded", times=1, parameters={"rows": 1.0}):
        record = service.wait(service.submit(lines)["request_id"])
    assert set(check_output(service, record, lines)) == {""}


COMBINED = [name for name, _, _ in FAULTS if name not in {"huge-row", "foreign-rows"}]
ROUNDS = 60


def drawn_faults(draw: random.Random) -> list[tuple[str, Json]]:
    """Between one and four faults with their parameters."""
    names = draw.sample(COMBINED, draw.randint(1, 4))
    orders: list[tuple[str, Json]] = []
    for name in names:
        has_share = name.endswith(("-rows", "-json", "-utf8", "-usage"))
        orders.append((name, {"share": draw.choice([0.1, 0.5, 1.0])} if has_share else {}))
    if draw.random() < 0.5:
        orders.append(("foreign-rows", {"replace": draw.random() < 0.5, "share": 0.3}))
    return orders


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_mix_of_output_faults_gives_n_lines(service: Service, seed: int) -> None:
    """Twenty jobs a seed, each with one to five faults at once, run together; all are whole."""
    draw = random.Random(seed)  # noqa: S311 - reproducible is the point
    holding = fire(service, "stuck-pending")
    jobs: list[tuple[str, list[Json]]] = []
    for number in range(ROUNDS // 3):
        lines = lines_of(draw.randint(1, 20), f"s{seed}-{number}")
        request = service.submit(lines)["request_id"]
        when = {"display_name": f"*{request}*"}
        for name, parameters in drawn_faults(draw):
            fire(service, f"output-{name}", when=when, seed=number, parameters=parameters)
        jobs.append((request, lines))
    service.drop_rule(holding)
    for request, lines in jobs:
        record = service.wait(request)
        assert record["status"] == "success", record
        codes = check_output(service, record, lines)
        check_money(service, record, codes)
        rows = witness_rows(service, record)
        assert all(code == "" or rows[n]["faults"] for n, code in enumerate(codes, start=1))
    assert all(rule["used"] for rule in rules(service))
