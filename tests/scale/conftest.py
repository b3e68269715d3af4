"""One emulator and two APIs for all tests of a file; each test has its own workers."""

from collections.abc import Iterator

import pytest
from tests.postgres import PostgresServer
from tests.scale.cluster import Cluster


@pytest.fixture(scope="module")
def whole_cluster(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    postgres_template: str,
) -> Iterator[Cluster]:
    """An emulator and two APIs on a database of their own."""
    name = postgres_server.create_database(postgres_template)
    made = Cluster(tmp_path_factory.mktemp("scale"), postgres_server.url(name))
    try:
        made.start_emulator()
        made.use(made.start("api"))
        made.start("api")
        yield made
    finally:
        made.close()
    postgres_server.drop_database(name)


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Iterator[Cluster]:
    """The same without workers and without fault rules."""
    whole_cluster.use(whole_cluster.apis[0])
    yield whole_cluster
    whole_cluster.drop_rules()
    whole_cluster.end_workers()
