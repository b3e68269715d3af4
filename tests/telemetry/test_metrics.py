import re

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.telemetry.metrics import Family, Sample, render

LINE = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="([^"\\\n]|\\["\\n])*",?)*\})? [-0-9.e+]+)\Z')


def test_the_text_is_that_of_prometheus() -> None:
    """Help and type once a name, then its values; whole numbers without a point."""
    families = [
        Family(
            name="jobs",
            about="How many.",
            samples=(Sample(value=2, labels={"state": "running", "of": "all"}), Sample(value=0.5)),
        ),
        Family(name="none", about="Nothing.", samples=()),
    ]
    assert render(families) == (
        "# HELP jobs How many.\n# TYPE jobs gauge\n"
        'jobs{state="running",of="all"} 2\njobs 0.5\n'
        "# HELP none Nothing.\n# TYPE none gauge\n"
    )


@settings(deadline=None)
@given(st.text(max_size=50), st.floats(0, 1e18))
def test_no_label_forges_a_line(text: str, value: float) -> None:
    """Quotes, backslashes and line ends are escaped, whatever a model is called."""
    rendered = render(
        [Family(name="a", about="b", samples=(Sample(value=value, labels={"c": text}),))]
    )
    *lines, end = rendered.split("\n")
    assert end == ""
    assert len(lines) == 3
    assert all(LINE.match(line) for line in lines)
