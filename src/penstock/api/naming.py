"""A job's name and labels, wherever a submission says them: in the query, in JSON, in a form.

In JSON they stand in `payload`, which is the caller's and comes back with them. In a query or a
form they are options, and are taken out.
"""

from starlette.datastructures import QueryParams

from penstock.core.job import Job
from penstock.core.limits import Limits
from penstock.core.naming import (
    LABEL,
    LABELS,
    NAME,
    Naming,
    checked_labels,
    checked_name,
    joined,
    labels_of,
    twice,
)
from penstock.ingest.intake import Envelope


def read_naming(query: QueryParams, limits: Limits) -> Naming:
    """Return what the query of a submission or of a list says; raises `InvalidRequest`."""
    names = query.getlist(NAME)
    if len(names) > 1:
        raise twice(NAME)
    return Naming(
        name=checked_name(names[0], limits) if names else None,
        labels=labels_of(query.getlist(LABEL), limits),
    )


def naming_of(said: Naming, envelope: Envelope, limits: Limits) -> Naming:
    """Return what query and body say together; raises `InvalidRequest`."""
    return joined(said, _of_body(envelope, limits), limits)


def shown(job: Job) -> dict[str, object]:
    """Return the members of the record; none for a job that has neither name nor labels."""
    said: dict[str, object] = {}
    if job.name is not None:
        said[NAME] = job.name
    if job.labels:
        said[LABELS] = job.labels
    return said


def _of_body(envelope: Envelope, limits: Limits) -> Naming:
    name, labels = envelope.name, envelope.labels
    of_json = {} if labels is None else checked_labels(labels, limits)
    return Naming(
        name=None if name is None else checked_name(name, limits),
        labels=of_json or labels_of(envelope.label, limits),
    )
