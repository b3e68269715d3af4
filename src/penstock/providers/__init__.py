"""Who runs the batches: the protocol and its implementations."""
