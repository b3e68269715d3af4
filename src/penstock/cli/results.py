"""`penstock results`: a look into the answers of a job, without keeping them."""

from __future__ import annotations

from penstock.cli.command import Entry, Lazy

_LOOK = "penstock.cli.results_look"

results = Lazy(
    "results",
    entries={
        "head": Entry(_LOOK, "head", "Show the first answers."),
        "stats": Entry("penstock.cli.results_stats", "stats", "Count and measure all answers."),
        "grep": Entry(_LOOK, "grep", "Find answers with a text."),
        "images": Entry("penstock.cli.images", "images", "Fetch the pictures, a file each."),
        "download": Entry("penstock.cli.download", "download", "Fetch all answers into a file."),
    },
    help="""Look into the answers of a job that has ended.

They are read as they come, one at a time, in the order of the input; nothing is stored.

\b
Examples:
  penstock results head @last -n 3
  penstock results stats @last
  penstock results grep @last "not sure"
""",
)
