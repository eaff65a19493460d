"""The site's clock from its `Date` headers, on a machine with any local time."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manual_clock import Clock
from multidict import CIMultiDict

from upstream.site_clock import CHECK_SECONDS, TOLERANCE_SECONDS, SiteClock

NOW = 1_900_000_000.0


@dataclass
class Machine:
    """A machine's two clocks, moved manually, and its `SiteClock`."""

    wall: Clock = field(default_factory=Clock)
    monotonic: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.wall.now = NOW
        self.site = SiteClock(self.wall, self.monotonic)

    def hear(self, date: float | str, *, now: bool = False, **headers: str) -> None:
        """Receive an answer with this time."""
        text = date if isinstance(date, str) else formatdate(date, usegmt=True)
        self.site.learn(CIMultiDict({"Date": text, **headers}), now=now)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_the_machines_clock_is_used_before_any_answer_of_the_site(machine: Machine) -> None:
    assert (machine.site(), machine.site.skew) == (NOW, 0.0)


@pytest.mark.parametrize("seconds", [7200, -7200, 61, -61, 10_000_000])
def test_a_site_clock_that_differs_by_more_than_the_tolerance_is_followed(seconds: float, machine: Machine) -> None:
    machine.hear(NOW + seconds)
    assert (machine.site(), machine.site.skew) == (NOW + seconds, seconds)
    machine.wall.now += 5
    assert machine.site() == NOW + seconds + 5


@pytest.mark.parametrize("seconds", [0, 59, -59, TOLERANCE_SECONDS, -TOLERANCE_SECONDS])
def test_a_small_difference_of_the_site_clock_is_ignored(seconds: float, machine: Machine) -> None:
    machine.hear(NOW + seconds)
    assert machine.site() == NOW


def test_date_headers_are_parsed_periodically_or_on_demand(machine: Machine) -> None:
    machine.hear(NOW)
    machine.monotonic.now += CHECK_SECONDS - 1
    machine.hear(NOW + 7200)
    assert machine.site.skew == 0
    machine.hear(NOW + 7200, now=True)
    assert machine.site.skew == 7200
    machine.monotonic.now += CHECK_SECONDS
    machine.hear(NOW)
    assert machine.site.skew == 0


def test_the_site_clock_notices_when_the_machines_clock_is_set(machine: Machine) -> None:
    machine.hear(NOW - 7200)
    machine.wall.now -= 7200
    machine.monotonic.now += CHECK_SECONDS
    machine.hear(NOW - 7200)
    assert (machine.site(), machine.site.skew) == (NOW - 7200, 0.0)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Mon, 99 Foo 2026 25:00:00 GMT",
        "0",
        "☃",
        "Thu, 01 Jan 0001",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Mon, 01 Jan 2026 00:00:00 +99999999999999",
        "Fri, 31 Dec 9999 23:59:59 +9999",
    ],
)
def test_an_invalid_date_is_ignored(date: str, machine: Machine) -> None:
    machine.hear(NOW + 7200)
    machine.hear(date, now=True)
    assert machine.site.skew == 7200


def test_the_date_of_an_answer_from_a_cache_is_ignored(machine: Machine) -> None:
    machine.hear(NOW - 7200, Age="7200")
    machine.site.learn(CIMultiDict(), now=True)
    assert machine.site.skew == 0
    machine.hear(NOW + 7200)  # the next one is still parsed
    assert machine.site.skew == 7200


numbers = st.integers(0, 10**25).map(str)
dates = st.builds("Mon, {} Jan {} {}:{}:{} {}".format, *[numbers] * 5, st.sampled_from(["GMT", "-0000"]) | numbers)


@given(st.text(max_size=40) | dates)
def test_no_date_header_raises_an_error(date: str) -> None:
    machine = Machine()
    machine.hear(date)
    assert machine.site.skew == 0 or abs(machine.site.skew) > TOLERANCE_SECONDS


@given(skew=st.integers(-(10**8), 10**8), passed=st.floats(0, 86_400))
def test_the_site_time_is_never_off_by_more_than_the_tolerance(skew: int, passed: float) -> None:
    machine = Machine()
    machine.hear(NOW + skew)
    machine.wall.now += passed
    assert abs(machine.site() - (NOW + skew + passed)) <= TOLERANCE_SECONDS
