"""What makes a write confirmed: the pure judge against the schedules in which counting was wrong, and by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.confirm import FRESH, Engine, GroupView, Kind, Role, judge, read_groups, read_role, slot_of

A, B, C, TE = "127.0.0.11:7861", "127.0.0.12:7861", "127.0.0.13:7861", "127.0.0.14:7861"
LEADER = Engine(A, term=3, start_id=7)
VIEW = GroupView(slots=((0, 16383),), leader=LEADER, in_sync=2, required=(B,), min_in_sync=1)
AFTER_THE_WRITE = Role(True, 1000, {B: 900})


def role(*replicas: tuple[str, int], leads: bool = True, offset: int = 1000) -> Role:
    """A second ROLE."""
    return Role(leads, offset, dict(replicas))


def test_every_required_copy_past_the_write_confirms_it() -> None:
    assert judge(AFTER_THE_WRITE, role((B, 1000)), VIEW, 0.1, LEADER).confirmed
    assert judge(AFTER_THE_WRITE, role((B, 1500), offset=1500), VIEW, 0.1, LEADER).confirmed


def test_a_lone_leader_that_is_the_whole_in_sync_set_confirms_alone() -> None:
    alone = replace(VIEW, in_sync=1, required=())
    assert judge(AFTER_THE_WRITE, role(), alone, 0.1, LEADER).confirmed


def test_v1_a_lost_link_lowers_nothing() -> None:
    """No replica is attached, but S still holds B: counting the attached ones confirmed on A alone."""
    output = judge(AFTER_THE_WRITE, role(), VIEW, 0.1, LEADER)
    assert output.kind is Kind.ACKNOWLEDGED and B in output.reason


def test_v1_transaction_engines_count_for_nobody() -> None:
    """WAIT 2 was answered by two TEs while the only SM stalled."""
    assert not judge(AFTER_THE_WRITE, role((TE, 1000), (C, 1000), (B, 999)), VIEW, 0.1, LEADER).confirmed


def test_v2_a_shrunk_follower_that_came_back_by_itself_does_not_stand_for_the_member() -> None:
    """S is {A, C}; B re-attached by gossip and acknowledged; C did not."""
    view = replace(VIEW, required=(C,))
    assert not judge(AFTER_THE_WRITE, role((B, 1000), (C, 900)), view, 0.1, LEADER).confirmed


def test_v2_a_joiner_counts_as_required_before_it_is_in_the_set() -> None:
    view = replace(VIEW, required=(B, C))
    assert not judge(AFTER_THE_WRITE, role((B, 1000)), view, 0.1, LEADER).confirmed
    assert judge(AFTER_THE_WRITE, role((B, 1000), (C, 1000)), view, 0.1, LEADER).confirmed


@pytest.mark.parametrize("now", [Engine(B, 4, 8), Engine(A, 4, 7), Engine(A, 3, 9), None])
def test_v3_a_new_view_says_nothing_about_a_write_to_the_old_engine(now: Engine | None) -> None:
    """Term 2 requires only its leader B; the client finishes on A, which alone has the write."""
    new = replace(VIEW, leader=now, in_sync=1, required=())
    assert not judge(AFTER_THE_WRITE, role(), new, 0.1, LEADER).confirmed


def test_v4_a_view_from_the_past_confirms_nothing() -> None:
    assert judge(AFTER_THE_WRITE, role((B, 1000)), VIEW, FRESH - 0.01, LEADER).confirmed
    output = judge(AFTER_THE_WRITE, role((B, 1000)), VIEW, FRESH, LEADER)
    assert output.kind is Kind.ACKNOWLEDGED and "no manager" in output.reason


def test_an_engine_that_was_demoted_meanwhile_confirms_nothing() -> None:
    assert not judge(AFTER_THE_WRITE, role((B, 1000), leads=False), VIEW, 0.1, LEADER).confirmed
    assert not judge(Role(False, 0, {}), role((B, 1000)), VIEW, 0.1, LEADER).confirmed


def test_below_min_in_sync_nothing_is_confirmed() -> None:
    view = replace(VIEW, in_sync=1, required=(), min_in_sync=2)
    assert not judge(AFTER_THE_WRITE, role(), view, 0.1, LEADER).confirmed


def test_roles_are_read_as_the_engine_writes_them() -> None:
    role = read_role([b"master", 77, [[b"127.0.0.12", b"7861", b"70"], [b"::1", b"7861", b"71"]]])
    assert role == Role(True, 77, {B: 70, "[::1]:7861": 71})
    assert not read_role([b"slave", b"127.0.0.11", 7861, b"connected", 77]).leads


def test_of_two_connections_from_one_address_the_shorter_counts() -> None:
    """The old link of a restarted copy stands beside the new one for a while."""
    both = read_role([b"master", 77, [[b"127.0.0.12", b"7861", b"77"], [b"127.0.0.12", b"7861", b"10"]]])
    assert both.replicas == {B: 10}


def test_a_group_that_is_assigned_but_not_open_has_no_leader_to_write_to() -> None:
    group = {
        "slots": [[0, 16383]],
        "open": False,
        "serving": False,
        "leaderEndpoint": A,
        "term": 3,
        "leaderStartId": 7,
        "inSync": ["a", "b"],
        "requiredEndpoints": [B],
    }
    (view,) = read_groups({"minInSync": 1, "groups": [group]})
    assert view.leader is None
    (view,) = read_groups({"minInSync": 1, "groups": [{**group, "open": True, "serving": True}]})
    assert view == VIEW


def test_keys_are_routed_as_the_cluster_routes_them() -> None:
    assert slot_of("123456789") == 12739  # the check value of CRC16/XMODEM, from the cluster specification
    assert slot_of("a{user}x") == slot_of(b"b{user}y")
