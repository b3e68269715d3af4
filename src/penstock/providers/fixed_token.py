"""A token that is known: of an emulator, or made elsewhere."""


class FixedToken:
    """A token source for emulators and for tokens made elsewhere."""

    def __init__(self, token: str) -> None:
        self._token = token

    @property
    def quota_project(self) -> None:
        """A fixed token has no quota project."""
        return

    @property
    def described(self) -> str:
        """What it is, and not its text."""
        return "a token made elsewhere (vertex.access_token)"

    async def __call__(self) -> str:
        """Return the token."""
        return self._token
