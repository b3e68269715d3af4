from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.access import (
    ALL,
    OPERATOR_ORG,
    ROLE_SCOPES,
    Maker,
    Role,
    Scope,
    grant,
    grant_again,
    grant_until,
    may,
    may_manage,
    parse_scopes,
)
from penstock.core.job import OrgId
from penstock.errors import Forbidden, InvalidRequest

ACME = OrgId("acme")
RANKS = (Role.VIEWER, Role.DEVELOPER, Role.ADMIN, Role.OWNER)
SCOPES = st.frozensets(st.sampled_from(Scope))
STORED = st.one_of(st.just(ALL), SCOPES.map(lambda scopes: " ".join(sorted(scopes))))
ENDS = st.one_of(st.none(), st.floats(1, 9))


def maker(org_id: OrgId, role: Role, stored: str, *, himself: bool, end: float | None) -> Maker:
    """Somebody who makes a key with a key of his."""
    has_all = stored == ALL and himself
    return Maker(scopes=may(org_id, role, stored), has_all=has_all, expires_at=end)


def test_higher_roles_may_more() -> None:
    """Each role may what the one below it may."""
    for lower, higher in pairwise(RANKS):
        assert ROLE_SCOPES[lower] <= ROLE_SCOPES[higher]


def test_the_operators_scopes_are_those_of_his_organisation() -> None:
    """Only owners and admins of the operator's organisation see and change all organisations."""
    operators = {
        (org_id, role)
        for org_id in (OPERATOR_ORG, ACME)
        for role in Role
        if may(org_id, role, ALL) & {Scope.ORGS_READ, Scope.ORGS_WRITE, Scope.METRICS_READ}
    }
    assert operators == {(OPERATOR_ORG, Role.OWNER), (OPERATOR_ORG, Role.ADMIN)}


@given(st.sampled_from([ACME, OPERATOR_ORG]), st.sampled_from(Role), SCOPES)
def test_a_key_may_what_both_its_role_and_its_scopes_allow(
    org_id: OrgId, role: Role, scopes: frozenset[Scope]
) -> None:
    """Never more than either; and a scope that does not exist any more gives nothing."""
    found = may(org_id, role, " ".join([*scopes, "retired:scope"]))
    assert found == scopes & may(org_id, role, ALL)


def test_nobody_manages_those_above_himself() -> None:
    """One may change those who stand as high as oneself or lower."""
    managed = {role: [other for other in RANKS if may_manage(role, other)] for role in RANKS}
    assert managed == {role: list(RANKS[: place + 1]) for place, role in enumerate(RANKS)}


def test_scopes_are_read_by_their_names() -> None:
    """Twice the same is once, and none is none."""
    assert parse_scopes(["jobs:read", "jobs:read"]) == {Scope.JOBS_READ}
    assert parse_scopes([]) == frozenset()


def test_scopes_that_do_not_exist_are_named() -> None:
    """A few of them, cut to a length that fits; and the hint lists those that exist."""
    with pytest.raises(InvalidRequest) as caught:
        parse_scopes(["jobs:read", "x" * 99, "jobs:*"])
    assert caught.value.message == f"There is no scope jobs:*, {'x' * 40}."
    assert caught.value.error_code == "unknown_scope"
    assert all(scope in str(caught.value.hint) for scope in Scope)


@given(
    org_id=st.sampled_from([ACME, OPERATOR_ORG]),
    role=st.sampled_from(Role),
    stored=STORED,
    wanted=st.one_of(st.none(), SCOPES),
    himself=st.booleans(),
    other=st.sampled_from(Role),
)
def test_a_key_never_exceeds_its_maker(
    org_id: OrgId,
    role: Role,
    stored: str,
    wanted: frozenset[Scope] | None,
    himself: bool,  # noqa: FBT001  # hypothesis gives it
    other: Role,
) -> None:
    """Whatever is asked for: what the new key may do, its maker's key may do as well.

    Also when the user it is for stands higher than its maker, or becomes so later.
    """
    who = maker(org_id, role, stored, himself=himself, end=None)
    if wanted is not None and not wanted <= who.scopes and not who.has_all:
        with pytest.raises(Forbidden, match="cannot exceed its maker"):
            grant(who, wanted)
        return
    made = grant(who, wanted)
    assert may(org_id, role if himself else other, made) <= who.scopes
    assert made != ALL or (stored == ALL and himself)
    if wanted is not None:
        assert parse_scopes(made.split()) == wanted


@given(role=st.sampled_from(Role), stored=STORED, old=STORED, himself=st.booleans())
def test_a_rotation_gives_nobody_more_than_he_had(
    role: Role,
    stored: str,
    old: str,
    himself: bool,  # noqa: FBT001  # hypothesis gives it
) -> None:
    """A successor has the scopes of the old key, or is refused to those who lack one of them."""
    who = maker(ACME, role, stored, himself=himself, end=None)
    if not who.has_all and (old == ALL or not set(old.split()) <= who.scopes):
        with pytest.raises(Forbidden, match="cannot exceed its maker"):
            grant_again(who, old)
        return
    made = grant_again(who, old)
    assert (made == ALL) == (old == ALL)
    assert set(made.split()) == set(old.split())
    assert may(ACME, role, made) <= who.scopes


@given(ENDS, ENDS)
def test_a_key_never_lives_longer_than_its_makers(wanted: float | None, end: float | None) -> None:
    """Without an end of its own it gets that of its maker's key; a later one is refused."""
    who = maker(ACME, Role.OWNER, ALL, himself=True, end=end)
    if wanted is not None and end is not None and wanted > end:
        with pytest.raises(Forbidden, match="ends earlier"):
            grant_until(who, wanted)
        return
    assert grant_until(who, wanted) == (end if wanted is None else wanted)


def test_a_refusal_says_what_can_be_given() -> None:
    """The hint lists the maker's scopes, or says that there are none."""
    for stored, told in (("jobs:read", "jobs:read"), ("audit:read", "nothing")):
        who = maker(ACME, Role.VIEWER, stored, himself=True, end=None)
        with pytest.raises(Forbidden, match="lacks users:write") as caught:
            grant(who, frozenset({Scope.USERS_WRITE}))
        assert str(caught.value.hint).endswith(f"{told}.")
