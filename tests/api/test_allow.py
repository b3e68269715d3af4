import re

import httpx2
import pytest
from starlette.routing import Route
from tests.api.driver import BASE, Api


def methods(api: Api) -> dict[str, set[str]]:
    """All methods of each path, over all of its routes."""
    found: dict[str, set[str]] = {}
    for route in api.app.routes:
        if isinstance(route, Route):
            found.setdefault(route.path, set()).update(route.methods or ())
    return found


async def test_a_wrong_method_is_told_all_right_ones(api: Api, acme: httpx2.AsyncClient) -> None:
    """`Allow` has every method of the path, whichever of its routes comes first."""
    for path, allowed in methods(api).items():
        answer = await acme.request("TRACE", re.sub(r"{\w+}", "x", path))
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == allowed, path


@pytest.mark.parametrize("wrong", ["limit=x", "offset=-1", "status=x", "cursor=x"])
async def test_a_list_of_another_model_is_judged_as_any_other(
    acme: httpx2.AsyncClient, wrong: str
) -> None:
    """That nothing can be found is no reason to take a wrong parameter for a right one."""
    for query in (wrong, f"model=other&{wrong}"):
        answer = await acme.get(f"{BASE}/requests?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert (await acme.get(f"{BASE}/requests?model=other")).json() == {"requests": [], "total": 0}
