# Made from penstock/client/aio/__init__.py by tools/make_blocking.py; edit that one.

"""The client that blocks; made by `tools/make_blocking.py` of the one that awaits."""
