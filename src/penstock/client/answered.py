"""What is asked of a result by those who show it, or put it into a frame."""

from typing import Protocol


class Tokens(Protocol):
    """What a result says of its tokens."""

    @property
    def prompt_tokens(self) -> int:
        """What was sent."""

    @property
    def output_tokens(self) -> int:
        """What came back."""

    @property
    def thoughts_tokens(self) -> int:
        """What the model thought, which costs as much."""


class Failed(Protocol):
    """What a result says of its failure."""

    @property
    def code(self) -> str:
        """A stable word."""

    @property
    def message(self) -> str:
        """A sentence."""

    @property
    def retryable(self) -> bool:
        """Whether another try may mend it."""


class Shown(Protocol):
    """What a preview needs of a result."""

    @property
    def line(self) -> int:
        """The number in the input, from 1."""

    @property
    def key(self) -> object:
        """The caller's own name for it."""

    @property
    def outcome(self) -> str:
        """How it ended."""

    @property
    def text(self) -> str:
        """The answer."""

    @property
    def error(self) -> Failed | None:
        """What went wrong."""


class Answered(Shown, Protocol):
    """What a frame needs of a result."""

    @property
    def usage(self) -> Tokens:
        """What it took."""
