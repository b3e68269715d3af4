import msgspec
import pytest

from penstock.core.limits import Limits


def test_the_defaults_are_those_of_the_guide() -> None:
    """1 GB, 200,000 requests, 72 h in the queue, 24 h of running."""
    limits = Limits()
    assert limits.job_bytes_max == 2**30
    assert limits.job_lines_max == 200_000
    assert limits.queue_seconds_max == 72 * 3600
    assert limits.run_seconds_max == 24 * 3600


def test_an_unknown_limit_is_refused() -> None:
    """A misspelt limit is an error and not a default."""
    with pytest.raises(msgspec.ValidationError, match="job_lines_maximum"):
        msgspec.convert({"job_lines_maximum": 3}, Limits)


def test_limits_do_not_change() -> None:
    """A limit that was read stays what it was."""
    with pytest.raises(AttributeError):
        Limits().job_lines_max = 1  # type: ignore[misc]  # the point of the test


def test_a_body_may_be_six_times_its_input() -> None:
    """JSON may spend six bytes on one byte of the input; nothing honest needs more."""
    limits = Limits(job_bytes_max=1_000, envelope_bytes_max=10)
    assert limits.body_bytes_max >= 6 * limits.job_bytes_max + limits.envelope_bytes_max
