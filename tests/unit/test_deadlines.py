from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corral._engine.deadlines import ASK, KILL, WAIT, Watch


def look(watch: Watch, now_s: float, number: int = 1, since_s: float = 0.0) -> tuple[str, float]:
    return watch.look(now_s, number, since_s=since_s, limit_s=5.0, grace_s=1.0)


def test_nothing_happens_before_the_limit() -> None:
    assert look(Watch(), 4.9) == (WAIT, 5.0)


def test_late_work_is_asked_first_and_killed_a_grace_later() -> None:
    watch = Watch()
    assert look(watch, 5.0)[0] is ASK
    assert look(watch, 5.9)[0] is ASK
    assert look(watch, 6.0)[0] is KILL


def test_who_looks_late_still_leaves_the_whole_grace() -> None:
    watch = Watch()
    assert look(watch, 100.0) == (ASK, 100.1)
    assert look(watch, 100.9)[0] is ASK
    assert look(watch, 101.0)[0] is KILL


def test_the_next_piece_of_work_starts_anew() -> None:
    watch = Watch()
    look(watch, 5.0)
    assert look(watch, 6.5, number=2, since_s=5.5) == (WAIT, 10.5)
    assert look(watch, 10.5, number=2, since_s=5.5)[0] is ASK


def test_without_a_grace_it_is_killed_at_once() -> None:
    watch = Watch()
    assert watch.look(5.0, 1, since_s=0.0, limit_s=5.0, grace_s=0.0)[0] is KILL


@given(
    limit_s=st.floats(0.001, 100),
    grace_s=st.floats(0, 100),
    delays=st.lists(st.floats(0, 10), max_size=30),
)
def test_whoever_comes_when_told_asks_and_then_kills(
    limit_s: float, grace_s: float, delays: list[float]
) -> None:
    watch, now_s, asked_at_s = Watch(), 0.0, None
    for delay_s in [*delays, *[0.0] * 40]:
        verdict, again_s = watch.look(now_s, 1, since_s=0.0, limit_s=limit_s, grace_s=grace_s)
        assert again_s > now_s
        if verdict is KILL:
            break
        assert (verdict is ASK) == (now_s >= limit_s)
        if verdict is ASK and asked_at_s is None:
            asked_at_s = now_s
        now_s = again_s + delay_s
    assert verdict is KILL
    assert now_s >= limit_s
    assert asked_at_s is None or now_s >= asked_at_s + grace_s
