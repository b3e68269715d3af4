"""Bytes: the local spool that promises durability, and the provider's bucket."""
