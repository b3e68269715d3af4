"""The fixtures that users of `penstock.testing` have."""

from penstock.testing.plugin import penstock_environment, penstock_server, penstock_session

__all__ = ["penstock_environment", "penstock_server", "penstock_session"]
