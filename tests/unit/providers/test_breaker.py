"""The breaker's and the bucket's rules, by hand-set time."""

from orchestrator.providers.breaker import COOL, FORGET, GROW, MOST, PROBES, START, TRIP, Answer, Breaker
from orchestrator.providers.bucket import LONGEST, Bucket, back_off


def made(breaker: Breaker, now: float) -> int:
    """How many may be begun at once."""
    many = 0
    while breaker.admit(now) is Answer.GO:
        breaker.begun()
        many += 1
        assert many < 10_000
    return many


def test_an_image_that_never_boots_costs_a_bounded_number_of_machines() -> None:
    breaker, now, total = Breaker(), 0.0, 0
    while breaker.admit(now) is not Answer.REFUSE:
        many = made(breaker, now)
        total += many
        for _ in range(many):
            breaker.failed(now)
        now += COOL
        assert now < 100 * COOL
    assert total == MOST == START + PROBES == 7
    assert breaker.admit(now + FORGET) is Answer.GO


def test_machines_that_fail_one_after_the_other_are_not_more() -> None:
    breaker, now, total = Breaker(), 0.0, 0
    while (answer := breaker.admit(now)) is not Answer.REFUSE:
        if answer is Answer.GO:
            breaker.begun()
            total += 1
        elif breaker.under_way:
            breaker.failed(now)
        else:
            now += 1.0
    assert total == MOST


def test_each_success_lets_more_through_and_one_failure_in_twenty_stops_nothing() -> None:
    breaker, now, total, rounds = Breaker(), 0.0, 0, 0
    while total < 10_000:
        many = made(breaker, now) if not breaker.under_way else 0
        assert many, "it opened"
        for n in range(many):
            breaker.failed(now) if (total + n) % 20 == 7 else breaker.came_up()
        total, rounds = total + many, rounds + 1
        if breaker.successes > 1000:
            break
    assert rounds <= 4


def test_a_kind_that_stops_coming_up_costs_those_under_way_and_the_trials() -> None:
    breaker, now, total = Breaker(), 0.0, 0
    for _ in range(made(breaker, now)):
        breaker.came_up()
    assert made(breaker, now) == START + GROW * START
    for _ in range(START + GROW * START):
        breaker.failed(now)
    while breaker.admit(now) is not Answer.REFUSE:
        for _ in range(made(breaker, now)):
            total += 1
            breaker.failed(now)
        now += COOL
    assert total == PROBES


def test_it_opens_after_failures_in_a_row_tries_one_alone_and_closes_when_that_works() -> None:
    breaker = Breaker()
    breaker.begun()
    breaker.came_up()
    for n in range(TRIP):
        assert n == 0 or breaker.admit(100.0) is Answer.GO
        breaker.begun()
        breaker.failed(100.0)
    assert breaker.admit(100.0) is Answer.WAIT
    assert breaker.pause(110.0) == COOL - 10
    assert made(breaker, 100 + COOL) == 1
    assert breaker.admit(100 + COOL) is Answer.WAIT
    breaker.came_up()
    assert made(breaker, 100 + COOL) == START + GROW


def test_what_says_nothing_about_the_kind_does_not_count() -> None:
    breaker = Breaker()
    for _ in range(3 * TRIP):
        breaker.begun()
        breaker.dropped()
    assert made(breaker, 0.0) == START


def test_the_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3)
    assert [bucket.take(10.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert bucket.take(20.0) == 0.0
    assert Bucket(rate=0.0, burst=1).take(0.0) == 0.0


def test_pauses_grow_and_keep_to_what_the_infrastructure_advised() -> None:
    assert [back_off(n, 0.0) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert back_off(1, 7.0) == 7.0
    assert back_off(30, 0.0) == LONGEST
