"""A whole Penstock for the tests of your pipeline: server and emulator, no account, no cost.

    from penstock.testing import running

    with running() as server:
        server.script("kettle", reply={"sentiment": "positive"})
        server.script("lamp", fail=429)
        run_my_pipeline(server.client())

With pytest, say `pytest_plugins = ["penstock.testing.plugin"]` in `conftest.py` and take the
fixture `penstock_server`.
"""

from penstock.testing.server import PenstockServer, ServerDidNotStart, running

__all__ = ["PenstockServer", "ServerDidNotStart", "running"]
