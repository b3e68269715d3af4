import pytest

from penstock.core.ids import is_secret, new_id


def test_ids_are_never_the_same() -> None:
    """A thousand of them, each with its prefix."""
    made = {new_id("usr") for _ in range(1000)}
    assert len(made) == 1000
    assert all(one.startswith("usr_") and is_secret(one) for one in made)


@pytest.mark.parametrize(
    "text", ["", "owner", "usr_", f"usr_{'a' * 25}", f"usr_{'a' * 27}", f"usr_{'u' * 26}\n"]
)
def test_what_was_chosen_is_no_secret(text: str) -> None:
    """Only the form of ours counts as one that cannot be guessed."""
    assert not is_secret(text)
