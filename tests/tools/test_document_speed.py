"""The tables of speed.md come from results, and say plainly what is met and what is not."""

import pytest

import document_speed

PAGE = "# Speed\n\n<!-- figures: goals -->\nold\n<!-- end -->\n\nText.\n"


def uploads(of_null: float) -> dict[str, object]:
    """What a result of an upload has of it."""
    return {"of_null": of_null, "penstock": {"mb_per_second": 300.0}}


def test_the_page_is_that_of_the_results() -> None:
    """Each table is what would be written."""
    page = document_speed.PAGE.read_text(encoding="utf-8")
    assert document_speed.build(page, document_speed.read_results()) == page, "run make generate"


def test_every_table_stands_on_the_page() -> None:
    """None is made for nobody, and no place asks for one that there is not."""
    page = document_speed.PAGE.read_text(encoding="utf-8")
    assert [place["name"] for place in document_speed._PLACE.finditer(page)] == [
        *("goals", "ingest", "peers", "steps", "calls", "growth", "small_jobs")
    ]


@pytest.mark.parametrize(
    ("figure", "said"),
    [(0.9, "**0.9** | met"), (0.75, "**0.75** | met"), (0.5, "**0.5** | missed by 1.50 times")],
)
def test_a_goal_is_met_or_missed(figure: float, said: str) -> None:
    """The row says by how much; what stands around the table stays."""
    page = document_speed.build(PAGE, {"ingest_raw_1gb": uploads(figure)})
    assert f"| ≥ 0.75 | {said} |" in page
    assert page.startswith("# Speed\n\n<!-- figures: goals -->\n\n| what |")
    assert page.endswith("|\n\n<!-- end -->\n\nText.\n")


def test_a_bound_from_above_is_met_from_below() -> None:
    """The slowest shape of lines may be so many times slower, and no more."""
    shapes = {"times_slower_300": 1.5, "times_slower_300000": 0.9}
    page = document_speed.build(PAGE, {"shapes": shapes})
    assert "| ≤ 1.7 times | **1.5** times | met |" in page
    page = document_speed.build(PAGE, {"shapes": {**shapes, "times_slower_300": 3}})
    assert "**3** times | missed by 1.76 times |" in page


def test_what_was_not_measured_is_not_there() -> None:
    """Without a result there is a head and no row, and never a figure of nothing."""
    assert document_speed.build(PAGE, {}).count("\n|") == 2
