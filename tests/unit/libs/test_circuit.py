"""When a circuit trips, and for what."""

from __future__ import annotations

from libs.circuit import Circuit, CircuitPolicy, Trip

_POLICY = CircuitPolicy(upstream_failures=4, connection_failures=3, contents=2, reach_s=60.0)


def _fails(
    circuit: Circuit, *failures: tuple[str, str], of_upstream: bool = False, at_s: float = 0.0
) -> list[Trip | None]:
    return [circuit.failed(who, what, at_s, of_upstream=of_upstream) for who, what in failures]


def test_one_connection_that_fails_alone_trips_itself() -> None:
    circuit = Circuit(_POLICY)

    tripped = _fails(circuit, ("a", "1"), ("a", "2"), ("a", "3"))

    assert tripped == [None, None, Trip.CONNECTION]


def test_one_unit_that_always_fails_trips_nothing() -> None:
    circuit = Circuit(_POLICY)

    assert set(_fails(circuit, *[("a", "1")] * 50)) == {None}


def test_failures_of_several_connections_trip_the_upstream() -> None:
    circuit = Circuit(_POLICY)

    tripped = _fails(circuit, ("a", "1"), ("b", "2"), ("a", "3"), ("b", "4"))

    assert tripped == [None, None, None, Trip.UPSTREAM]


def test_a_host_that_takes_no_connection_is_down_whatever_the_content() -> None:
    circuit = Circuit(_POLICY)

    tripped = _fails(circuit, *[("a", "1")] * 4, of_upstream=True)

    assert tripped == [None, None, None, Trip.UPSTREAM]


def test_a_success_of_another_connection_keeps_the_upstream_up() -> None:
    circuit = Circuit(_POLICY)
    _fails(circuit, ("a", "1"), ("b", "2"), ("a", "3"))

    circuit.succeeded("c")

    assert _fails(circuit, ("b", "4"), ("b", "5")) == [None, Trip.CONNECTION]


def test_a_success_of_the_connection_itself_ends_its_streak() -> None:
    circuit = Circuit(_POLICY)
    _fails(circuit, ("a", "1"), ("a", "2"))

    circuit.succeeded("a")

    assert _fails(circuit, ("a", "3"), ("a", "4")) == [None, None]


def test_many_contents_of_one_connection_do_not_hide_the_others() -> None:
    policy = CircuitPolicy(upstream_failures=40, connection_failures=100)
    circuit = Circuit(policy)
    _fails(circuit, *[("a", str(n)) for n in range(38)])

    assert _fails(circuit, ("b", "x"), ("b", "y")) == [None, Trip.UPSTREAM]


def test_failures_long_apart_are_no_streak() -> None:
    circuit = Circuit(_POLICY)
    _fails(circuit, ("a", "1"), ("a", "2"))

    assert _fails(circuit, ("a", "3"), at_s=61.0) == [None]


def test_failures_before_the_upstream_was_asked_trip_their_connection_and_nothing_else() -> None:
    circuit = Circuit(_POLICY)

    tripped = [circuit.failed_alone(who, 0.0) for who in "abcabcabc"]

    assert tripped == [False] * 6 + [True] * 3
    assert _fails(circuit, ("a", "1"), ("b", "2")) == [None, None]


def test_a_success_ends_the_failures_before_the_upstream_was_asked() -> None:
    circuit = Circuit(_POLICY)
    before = [circuit.failed_alone("a", 0.0) for _ in range(2)]

    circuit.succeeded("a")

    assert [*before, circuit.failed_alone("a", 0.0)] == [False] * 3
