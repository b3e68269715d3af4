"""The client that awaits; the blocking one is made of it by `tools/make_blocking.py`."""
