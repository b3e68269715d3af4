"""Uploads are received in processes of their own, so that the API never waits for one."""
