"""Every limit on what a caller may send, with its unit in its name.

The defaults are those of the request-queue guide (1 GB, 200,000 requests, 72 h, 24 h) and of
DESIGN 7; each is a setting (`[limits]` in the TOML file, `PENSTOCK_LIMITS_*` in the environment).
"""

from typing import Final

import msgspec

ESCAPE_FACTOR_MAX: Final = 6
"""A JSON string may spend six bytes (`\\u0041`) on one byte of the decoded input."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Upper bounds; exceeding one is a clear refusal that names it."""

    job_bytes_max: int = 1_073_741_824
    """Decoded input of one job: 1 GiB, Vertex AI's own limit for an input file."""

    job_lines_max: int = 200_000
    """Requests in one job, Vertex AI's own limit."""

    line_bytes_max: int = 67_108_864
    """One line of the input, 64 MiB; a line is held in memory while it is checked."""

    line_values_max: int = 524_288
    """Values in one line, against a line of braces that becomes gigabytes when it is parsed. No
    line of less than a MiB can hold more."""

    json_depth_max: int = 64
    """Nesting of objects and arrays in one line, against nesting bombs."""

    provider_depth_max: int = 15
    """Objects within objects from `request` down; Vertex AI refuses the whole file at 16."""

    import_columns_max: int = 9_500
    """Members with different paths in the requests of one file, those that the API itself defines
    not counted; Vertex AI imports a file as a table of at most 10,000 columns."""

    quarantine_lines_max: int = 10_000
    """Bad lines of one job that may be put aside (`on_invalid=quarantine`)."""

    provider_bytes_max: int = 1_073_741_824
    """The provider's input file with our line keys; Vertex AI's limit. A job that needs more is cut
    into several provider jobs."""

    provider_lines_max: int = 200_000
    """Requests in one provider job; the same holds for a job that has more."""

    job_rounds_max: int = 10
    """How often lines of one job are sent, the first time and all retries included."""

    retry_attempts_max: int = 5
    """Of these, how often they are sent again without anybody asking; 0 switches that off for all
    jobs, whatever they ask for."""

    job_name_characters_max: int = 200
    """Name of a job."""

    job_labels_max: int = 16
    """Labels of one job, and labels that a list is filtered by."""

    job_label_characters_max: int = 63
    """Key of a label, and its value."""

    problems_reported_max: int = 100
    """Bad lines listed in one refusal; the count of all is always given."""

    envelope_bytes_max: int = 65_536
    """Everything of the body outside `input_data`."""

    compression_ratio_max: int = 100
    """Bytes that one byte of a compressed body may become, judged from the first MiB on."""

    uploads_open_max: int = 100
    """Unfinished resumable uploads that one organisation may have."""

    upload_seconds_max: int = 24 * 3600
    """From the start of a resumable upload until what is left of it is removed."""

    idempotency_seconds: int = 7 * 24 * 3600
    """How long an `Idempotency-Key` is remembered: longer than any job lives, so that a client can
    send again for as long as it waits."""

    idempotency_lost_seconds: float = 30.0
    """Without a sign of life of the request that works on an `Idempotency-Key`: then its process
    is taken for dead, and the next request with the key takes over. It gives three signs in this
    time."""

    orgs_max: int = 1_000
    """Organisations of one server."""

    users_per_org_max: int = 1_000
    """Users of one organisation."""

    keys_per_user_max: int = 100
    """Keys in force that one user may have in one organisation."""

    key_seconds_max: int = 10 * 366 * 24 * 3600
    """From now until the end of a key that has one, and of the key that a rotation replaces."""

    page_max: int = 200
    """Organisations, users, keys or rows of the audit log in one answer; a larger page is cut."""

    audit_verify_rows_max: int = 5_000
    """Rows of the audit log that one call works out again; the caller goes on from there."""

    admin_body_bytes_max: int = 16_384
    """Body of a call that changes organisations, users, keys or webhooks."""

    webhooks_max: int = 20
    """Webhooks of one organisation."""

    webhook_url_characters_max: int = 2_048
    """Address of a webhook."""

    webhook_seconds_max: float = 15.0
    """For one try to deliver to a webhook, from the look-up of its host to its answer's end."""

    webhook_answer_bytes_max: int = 65_536
    """Read of a webhook's answer; only its status counts."""

    webhook_failing_seconds_max: int = 5 * 24 * 3600
    """From the first try that failed, without one that worked since then, until a webhook is
    disabled."""

    webhook_overlap_seconds: int = 24 * 3600
    """After a rotation of a webhook's secret both sign for so long."""

    webhook_deliveries_max: int = 8
    """Deliveries to one webhook at the same time, by one process. One that does not answer holds no
    more of them than this."""

    queue_seconds_max: int = 72 * 3600
    """From accepted until the provider runs it."""

    run_seconds_max: int = 24 * 3600
    """From the provider's start until its end."""

    partial_bytes_max: int = 1_073_741_824
    """Read by one look at the output of a running job; what is beyond it counts as not done."""

    source_connect_seconds_max: float = 10.0
    """To find and reach the server of an `input_uri`."""

    source_idle_seconds_max: float = 30.0
    """Without a byte from the server of an `input_uri`."""

    source_seconds_max: float = 3_600.0
    """From the first to the last byte of an `input_uri`; its caller waits that long."""

    header_bytes_max: int = 16_384
    """Request line and headers of one HTTP request."""

    header_seconds_max: float = 10.0
    """From the first byte of a request to the end of its headers."""

    idle_seconds_max: float = 10.0
    """Without a byte while a body is expected."""

    body_bytes_per_second_min: int = 1_024
    """Average rate of a body after `idle_seconds_max` of grace."""

    unread_seconds_max: float = 60.0
    """Without the client taking a byte of an answer; then the connection is cut (on Linux)."""

    connections_max: int = 2_000
    """Connections to one process; one more gets 503 and is closed. Each takes a file descriptor and
    about 20 KB, and one that says nothing lives for `header_seconds_max`."""

    pipelined_max: int = 100
    """Requests of one connection that came before the answer to the first; one more and it is
    closed. Each takes 4 KB as soon as it has come."""

    chunk_overhead_bytes_max: int = 16_384
    """Of a body in chunks, what is neither body nor 16 bytes a chunk."""

    downloads_concurrency_max: int = 64
    """Outputs sent at the same time; one more gets 503 and when to try again. Each holds three
    file descriptors."""

    downloads_concurrency_tenant_max: int = 0
    """Of these, for one organisation; 0 means four fifths of them."""

    downloads_compressed_max: int = 4
    """Of these, compressed on the way; one more comes uncompressed. Each holds about 4 MB."""

    lines_page_max: int = 1_000
    """Lines in one answer of `/lines`; a larger page is cut."""

    lines_page_bytes_max: int = 4_194_304
    """Of the output in one answer of `/lines?include=output`; what is beyond comes on the next
    page. A line that is larger by itself is read alone."""

    lines_cache_bytes_max: int = 33_554_432
    """Of row indexes that a process keeps in memory for the next page."""

    image_line_bytes_max: int = 33_554_432
    """A line of the output out of which a picture is taken, or in which it is replaced by a link;
    both hold the line. A longer one goes by as it is."""

    usage_days_max: int = 366
    """Of the span that one question for usage by day, model or key may have."""

    usage_groups_max: int = 1_000
    """Sums in the answer to it; where there would be more, it is refused."""

    @property
    def body_bytes_max(self) -> int:
        """Bytes that no body needs, in any form, for an input within `job_bytes_max`."""
        return self.job_bytes_max * ESCAPE_FACTOR_MAX + self.envelope_bytes_max
