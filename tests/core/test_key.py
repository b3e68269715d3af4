import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.key import KEY_CHARS, key_id_of, new_key

KEY = new_key()
ANY = st.characters(min_codepoint=1, max_codepoint=0x2FF)


def test_a_new_key_is_well_formed() -> None:
    """A new key parses, and its id stands in it."""
    key = new_key()
    assert re.fullmatch(r"pk_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}", key)
    assert key_id_of(key) == key[3:11]
    assert len(key) == KEY_CHARS


def test_keys_differ() -> None:
    """No two keys are alike."""
    assert len({new_key() for _ in range(500)}) == 500


@settings(deadline=None, max_examples=500)
@given(st.integers(min_value=0, max_value=KEY_CHARS - 1), ANY)
def test_a_single_wrong_character_is_noticed(position: int, character: str) -> None:
    """Whichever character is mistyped, the key is refused without a look into the database."""
    mistyped = KEY[:position] + character + KEY[position + 1 :]
    assert (key_id_of(mistyped) is None) == (mistyped != KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        KEY[:-1],
        KEY + "A",
        KEY.replace("pk_", "sk_"),
        "_" * KEY_CHARS,
        "A" * KEY_CHARS,
        KEY.replace("_", "-"),
        KEY[:11] + KEY[12] + "_" + KEY[13:],
        " " + KEY[1:],
        KEY[:-1] + "é",
        KEY[:-1] + "\uff11",
    ],
    ids=range(11),
)
def test_other_forms_are_no_keys(text: str) -> None:
    """Wrong length, prefix, separators or characters give no id."""
    assert key_id_of(text) is None


def test_a_new_key_has_256_bits() -> None:
    """Each character of the secret is drawn from all 62, and there are enough of them."""
    secrets = [new_key().split("_")[2] for _ in range(500)]
    drawn = set("".join(secrets))
    assert len(drawn) == 62
    assert min(map(len, secrets)) * math.log2(len(drawn)) >= 256
    assert all(len(set(column)) > 50 for column in zip(*secrets, strict=True))
