"""From the bytes of a request to checked, numbered, indexed lines, in bounded memory."""
