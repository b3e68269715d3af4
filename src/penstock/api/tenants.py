"""All routes of organisations, users, keys and the audit log."""

from starlette.routing import Route

from penstock.api.admin import Admin
from penstock.api.audit import AuditRoutes
from penstock.api.auth import Authenticator
from penstock.api.keys import KeyRoutes
from penstock.api.orgs import OrgRoutes
from penstock.api.users import UserRoutes
from penstock.clock import Clock
from penstock.core.limits import Limits
from penstock.store.store import Store


class TenantRoutes:
    """The endpoints of the four."""

    def __init__(
        self, store: Store, authenticator: Authenticator, clock: Clock, limits: Limits
    ) -> None:
        admin = Admin(store=store, authenticator=authenticator, clock=clock, limits=limits)
        self._parts = (OrgRoutes(admin), UserRoutes(admin), KeyRoutes(admin), AuditRoutes(admin))

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [route for part in self._parts for route in part.routes()]
