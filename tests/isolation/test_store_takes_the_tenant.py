"""Which queries know the tenant, by their signatures."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

from penstock import store

TENANT = {"org_id", "actor"}
"""Parameters that say whose; a `job`, `key` or `claim` is a row that says it itself."""
ROWS = {"claim", "deliveries", "delivery", "job", "key"}
QUERIES = {
    "Audit",
    "Deliveries",
    "History",
    "Idempotency",
    "Jobs",
    "Keys",
    "Looks",
    "Orgs",
    "Rounds",
    "Shards",
    "Tenants",
    "Usage",
    "Users",
    "Webhooks",
    "Workers",
}

OF_NO_TENANT = {
    # The lifecycle works for all tenants, by ids that it has from the queue of open jobs.
    "Jobs.open_jobs",
    "Jobs.load",
    "Jobs.kept",
    "Jobs.cancel_requested",
    "Jobs.move",
    "Jobs.note",
    "Jobs.next_run",
    "Jobs.intend",
    "Jobs.record_provider_job",
    "Jobs.fence",
    "Jobs.attempts",
    "Jobs.finish",
    "Jobs.event",
    "Jobs.events",
    "Shards.begin_shards",
    "Shards.shards_of",
    "Deliveries.due",
    # Times and counts over all tenants, which name none of them.
    "History.past",
    "History.open_times",
    "History.figures",
    "Idempotency.prune",
    # Of one organisation or, for the operator, of all; the route decides.
    "Usage.groups",
    "Looks.give_up",
    "Looks.forget",
    # The signature of a download link, which covers the tenant, is checked against the row.
    "Jobs.linked",
    # Who a key belongs to is not known before it is read.
    "Tenants.key",
    "Tenants.key_with",
    "Tenants.touch_key",
    # The server's own start, and the command line beside it.
    "Tenants.has_keys",
    # The operator's list of all organisations, behind `orgs:read`.
    "Orgs.page",
    # Processes are no tenant's.
    "Workers.join",
    "Workers.beat",
    "Workers.leave",
    "Workers.silent_since",
    "Workers.forget",
}


def methods() -> Iterator[tuple[str, set[str]]]:
    """Every public method of the store's queries, and its parameters."""
    for module in pkgutil.iter_modules(store.__path__):
        found = vars(importlib.import_module(f"penstock.store.{module.name}"))
        for name, kind in found.items():
            if name not in QUERIES or kind.__module__ != found["__name__"]:
                continue
            for method, function in vars(kind).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", set(inspect.signature(function).parameters)


def test_every_query_takes_the_tenant() -> None:
    """A method of the store names its tenant, or stands in the list of those that serve none."""
    without = {name for name, parameters in methods() if not parameters & (TENANT | ROWS)}
    assert without == OF_NO_TENANT


def test_every_class_of_queries_is_known() -> None:
    """The names above are classes of the store, so that none is checked by nobody."""
    assert {name.partition(".")[0] for name, _ in methods()} == QUERIES
