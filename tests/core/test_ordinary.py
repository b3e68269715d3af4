"""The simplest lines are told from all others by one walk."""

from typing import Any

import pytest

from penstock.core.ordinary import is_simplest

SAID: dict[str, Any] = {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}
REQUEST: dict[str, Any] = {"contents": [SAID, {"role": "model", "parts": []}]}


def with_config(config: object) -> dict[str, Any]:
    """A line whose request has this configuration."""
    return {"request": {**REQUEST, "generationConfig": config}}


@pytest.mark.parametrize(
    "line",
    [
        {"request": REQUEST},
        {"key": "a", "request": REQUEST},
        with_config({"temperature": 0.5, "maxOutputTokens": 7, "responseMimeType": "a"}),
        with_config({"responseLogprobs": True}),
    ],
)
def test_texts_with_plain_settings_are_simple(line: object) -> None:
    """Most lines of most files are such."""
    assert is_simplest(line)


@pytest.mark.parametrize(
    "line",
    [
        [],
        {},
        {"request": []},
        {"key": 1, "request": REQUEST},
        {"key": "a", "x": "b", "request": REQUEST},
        {"request": {}},
        {"request": {"contents": {}}},
        {"request": {"contents": []}},
        {"request": {**REQUEST, "tools": []}},
        {"request": {**REQUEST, "generationConfig": {"topK": 1}, "tools": []}},
        {"request": {"contents": ["a"]}},
        {"request": {"contents": [{"parts": []}]}},
        {"request": {"contents": [{"role": "function", "parts": []}]}},
        {"request": {"contents": [{"role": ["user"], "parts": []}]}},
        {"request": {"contents": [{"role": "user", "parts": {}}]}},
        {"request": {"contents": [{**SAID, "x": 1}]}},
        {"request": {"contents": [{"role": "user", "parts": ["a"]}]}},
        {"request": {"contents": [{"role": "user", "parts": [{"text": 1}]}]}},
        {"request": {"contents": [{"role": "user", "parts": [{"text": "a", "x": 1}]}]}},
        with_config([]),
        with_config({}),
        with_config({"x": 1}),
        with_config({"temperature": None}),
        with_config({"temperature": float("inf")}),
        with_config({"maxOutputTokens": 2**64}),
        with_config({"maxOutputTokens": -(2**63) - 1}),
    ],
)
def test_all_else_is_looked_at_by_others(line: object) -> None:
    """What the walk does not know is no verdict; the exact rules have it."""
    assert not is_simplest(line)
