"""google-genai in Vertex mode works unchanged."""

import warnings
from collections.abc import Iterator

import pytest
from tests.emulator.driver import Emulator, jsonl, line

with warnings.catch_warnings():
    # The library warns about itself at import; not ours to mend.
    warnings.simplefilter("ignore")
    from google import genai
    from google.genai import errors, types
    from google.oauth2.credentials import Credentials


@pytest.fixture
def client(emulator: Emulator) -> Iterator[genai.Client]:
    """A client by base URL; it needs project, location and credentials that hold a token."""
    made = genai.Client(
        vertexai=True,
        project="penstock-emulator",
        location="global",
        credentials=Credentials("token"),
        http_options=types.HttpOptions(base_url=emulator.url),
    )
    yield made
    made.close()


def create(client: genai.Client) -> str:
    """Create a job with a label and give its name."""
    job = client.batches.create(
        model="gemini-3-flash-preview",
        src="gs://penstock/in/x.jsonl",
        config=types.CreateBatchJobConfig(
            display_name="by-sdk",
            dest="gs://penstock/out/sdk",
            http_options=types.HttpOptions(extra_body={"labels": {"batch": "7f"}}),
        ),
    )
    assert job.state == types.JobState.JOB_STATE_PENDING
    assert job.name is not None
    return job.name


def test_a_job_from_create_to_output(client: genai.Client, emulator: Emulator) -> None:
    """create, get, list with a filter, and the output directory under the asked destination."""
    emulator.put("in/x.jsonl", jsonl([line("a", "k-1"), line("[[emulator:fail=500]]", "k-2")]))
    name = create(client)
    emulator.finish(name)
    job = client.batches.get(name=name)
    assert job.state == types.JobState.JOB_STATE_SUCCEEDED
    assert job.done
    assert job.completion_stats is not None
    assert job.completion_stats.successful_count == 1
    config = types.ListBatchJobsConfig(filter='labels.batch="7f"', page_size=1)
    assert [job.name for job in client.batches.list(config=config)] == [name]
    assert client.batches.get(name=name.rpartition("/")[2]).name == name


def test_a_failed_job_can_be_read(client: genai.Client, emulator: Emulator) -> None:
    """job.error without details does not break get and list."""
    name = create(client)
    emulator.finish(name)
    job = client.batches.get(name=name)
    assert job.error is not None
    assert job.error.code == 3
    assert len(list(client.batches.list())) == 1


def test_cancel_and_delete(client: genai.Client) -> None:
    """Cancel, refused cancel, delete, and not found afterwards."""
    name = create(client)
    client.batches.cancel(name=name)
    assert client.batches.get(name=name).state == types.JobState.JOB_STATE_CANCELLED
    with pytest.raises(errors.ClientError, match="FAILED_PRECONDITION"):
        client.batches.cancel(name=name)
    assert client.batches.delete(name=name).done
    with pytest.raises(errors.ClientError, match="NOT_FOUND"):
        client.batches.get(name=name)
