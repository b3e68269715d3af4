"""Finding out what does not work: from a client's side, on a server, and about Google's answers."""
