"""Who may do what, as one table: each operation by each role, and by a key with one scope."""

from collections.abc import Callable
from typing import Final

import pytest
from tests.api.driver import Api
from tests.api.operations import OPERATIONS, routes_with_key, targets, with_member

from penstock.core.access import OPERATOR_ORG, Role, Scope
from penstock.core.job import Job, OrgId

MakeJob = Callable[..., Job]

COLUMNS: Final = {
    # Of the operator's organisation; the others are of any other one.
    "operator": (OPERATOR_ORG, Role.OWNER, "*"),
    "owner": (OrgId("acme"), Role.OWNER, "*"),
    "admin": (OrgId("acme"), Role.ADMIN, "*"),
    "developer": (OrgId("acme"), Role.DEVELOPER, "*"),
    "viewer": (OrgId("acme"), Role.VIEWER, "*"),
    "jobs:read": (OrgId("acme"), Role.OWNER, Scope.JOBS_READ),
}

GOLDEN: Final = """
operation                          operator owner admin developer viewer jobs:read
POST /requests                     200      200   200   200       403    403
GET /requests                      200      200   200   200       200    200
GET /requests/{request_id}         200      200   200   200       200    200
DELETE /requests/{request_id}      200      200   200   200       403    403
POST /requests/{request_id}/cancel 200      200   200   200       403    403
POST /requests/{request_id}/retry  200      200   200   200       403    403
GET /requests/{request_id}/lines   409      409   409   409       409    409
GET /requests/{request_id}/lines/groups 409 409   409   409       409    409
GET /requests/{request_id}/lines/{line_number} 409 409 409 409    409    409
GET /requests/{request_id}/lines/{line_number}/parts/{part_number} 409 409 409 409 409 409
GET /models                        200      200   200   200       200    200
GET /models/{model_id}             200      200   200   200       200    200
POST /uploads                      201      201   201   201       403    403
OPTIONS /uploads                   204      204   204   204       403    403
GET /uploads/{upload_id}           204      204   204   204       403    403
PATCH /uploads/{upload_id}         204      204   204   204       403    403
DELETE /uploads/{upload_id}        204      204   204   204       403    403
GET /usage                         200      200   200   200       200    403
GET /metrics                       200      403   403   403       403    403
GET /orgs                          200      403   403   403       403    403
POST /orgs                         201      403   403   403       403    403
GET /orgs/{org_id}                 200      200   200   200       200    403
PATCH /orgs/{org_id}               200      403   403   403       403    403
GET /users                         200      200   200   403       403    403
POST /users                        201      201   201   403       403    403
GET /users/{user_id}               200      200   200   403       403    403
PATCH /users/{user_id}             200      200   200   403       403    403
DELETE /users/{user_id}            204      204   204   403       403    403
GET /keys                          200      200   200   200       200    403
POST /keys                         201      201   201   201       403    403
GET /keys/{own_key_id}             200      200   200   200       200    403
GET /keys/{key_id}                 200      200   200   404       404    403
DELETE /keys/{own_key_id}          204      204   204   204       403    403
DELETE /keys/{key_id}              204      204   204   404       403    403
POST /keys/{own_key_id}/rotate     201      201   201   201       403    403
POST /keys/{key_id}/rotate         201      201   201   404       403    403
GET /webhooks                      200      200   200   200       200    403
POST /webhooks                     201      201   201   403       403    403
GET /webhooks/{webhook_id}         200      200   200   200       200    403
PATCH /webhooks/{webhook_id}       200      200   200   403       403    403
DELETE /webhooks/{webhook_id}      204      204   204   403       403    403
POST /webhooks/{webhook_id}/rotate 200      200   200   403       403    403
POST /webhooks/{webhook_id}/enable 200      200   200   403       403    403
GET /webhooks/{webhook_id}/deliveries 200   200   200   200       200    403
POST /webhooks/{webhook_id}/deliveries/{delivery_id}/replay 200 200 200 403 403 403
GET /audit                         200      200   200   403       403    403
GET /audit/verify                  200      200   200   403       403    403
"""


def golden() -> dict[str, dict[str, int]]:
    """The table by column and operation."""
    head, *rows = [line for line in GOLDEN.splitlines() if line]
    columns = head.split()[1:]
    table: dict[str, dict[str, int]] = {column: {} for column in columns}
    for row in rows:
        method, path, *codes = row.split()
        for column, code in zip(columns, codes, strict=True):
            table[column][f"{method} {path}"] = int(code)
    return table


def test_the_table_has_every_operation(api: Api) -> None:
    """A new route without its row fails here."""
    assert routes_with_key(api) == {one.route for one in OPERATIONS}
    named = [one.name for one in OPERATIONS]
    assert all(list(column) == named for column in golden().values())
    assert list(golden()) == list(COLUMNS)


@pytest.mark.slow
@pytest.mark.parametrize("column", COLUMNS)
async def test_each_role_may_what_the_table_says(api: Api, new_job: MakeJob, column: str) -> None:
    """The status of each operation, on things of the caller's organisation that others made."""
    org_id, role, scopes = COLUMNS[column]
    key = await with_member(api, org_id, role, scopes=scopes)
    found = {}
    async with api.client(key) as client:
        for one in OPERATIONS:
            ids = await targets(api, org_id, new_job(), key, one)
            found[one.name] = (await one.call(client, ids)).status_code
    assert found == golden()[column]
