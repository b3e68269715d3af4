"""What jobs are expected to cost, did cost and saved; dollars are decimal strings.

None is what nobody knows, such as the cost of a model without a price; it is never zero.
"""

import msgspec


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A number that was not known before the job ran; nine in ten end between low and high."""

    low: int = 0
    expected: int = 0
    high: int = 0


class Dollars(msgspec.Struct, frozen=True, kw_only=True):
    """The same of money."""

    low: str = ""
    expected: str = ""
    high: str = ""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a job was expected to have, get and cost, before anything was spent."""

    lines: int = 0
    prompt_tokens: Tokens = Tokens()
    output_tokens: Tokens = Tokens()
    cost_usd: Dollars | None = None
    online_cost_usd: str | None = None
    basis: str = ""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one outcome, as they were billed."""

    lines: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    usd: str | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a job did cost, what it would have cost online, and what identical lines saved."""

    tier: str = ""
    model: str = ""
    batch_usd: str | None = None
    online_usd: str | None = None
    saved_usd: str | None = None
    deduplicated_usd: str | None = None
    by_outcome: dict[str, Share] = {}
    reserved_usd: str | None = None
    refunded_usd: str | None = None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What was billed of one day, model, key or organisation, as far as it was grouped."""

    day: str | None = None
    model: str | None = None
    key: str | None = None
    org: str | None = None
    jobs: int = 0
    lines: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    batch_usd: str | None = None
    online_usd: str | None = None
    saved_usd: str | None = None
    unpriced_lines: int = 0


class SpentReport(
    msgspec.Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}
):
    """What was billed from the first day to the last, both included."""

    org_id: str
    first: str
    last: str
    group_by: list[str] = []
    groups: list[Spent] = []
