"""The domain, pure: no await, no I/O, nothing third-party but msgspec."""
