"""The model of the scaling benchmark: closed forms in simple limits, and what must hold in all."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._scaling_model import simulate
from benchmarks._scaling_terms import Draw, Driver, Job, Platform, random_job

EVERYWHERE = Platform(slots=10_000)


def constant(invocations: int, seconds: float) -> Job:
    return Job(invocations, lambda task, attempt, random: Draw(seconds))


def slow_once(invocations: int, seconds: float, slow: dict[int, float]) -> Job:
    return Job(invocations, lambda task, attempt, random: Draw(seconds if attempt else slow.get(task, seconds)))


def dies_once(invocations: int, seconds: float, dying: set[int]) -> Job:
    return Job(
        invocations,
        lambda task, attempt, random: Draw(seconds, seconds / 2 if task in dying and not attempt else None),
    )


class TestClosedForms:
    def test_without_limits_a_job_takes_as_long_as_its_longest_invocation(self) -> None:
        job = Job(50, lambda task, attempt, random: Draw(0.1 * (task + 1)))

        assert simulate(job, EVERYWHERE, Driver()).wall == pytest.approx(5.0)

    @pytest.mark.parametrize(("invocations", "slots", "rounds"), [(1, 4, 1), (8, 4, 2), (9, 4, 3), (1000, 7, 143)])
    def test_equal_invocations_on_few_slots_take_whole_rounds(self, invocations: int, slots: int, rounds: int) -> None:
        out = simulate(constant(invocations, 2.0), Platform(slots=slots), Driver())

        assert out.wall == pytest.approx(rounds * 2.0)

    def test_a_cold_start_is_paid_once_by_each_environment(self) -> None:
        out = simulate(constant(9, 1.0), Platform(slots=3, cold_median=5.0), Driver())

        assert (out.wall, out.cold_starts) == (pytest.approx(5.0 + 3 * 1.0), 3)

    def test_warm_environments_start_at_once(self) -> None:
        assert simulate(constant(3, 1.0), Platform(slots=3, warm=3, cold_median=5.0), Driver()).wall == pytest.approx(1)

    def test_a_driver_sends_one_call_after_another(self) -> None:
        out = simulate(constant(100, 1.0), EVERYWHERE, Driver(dispatch=0.02))

        assert out.wall == pytest.approx(100 * 0.02 + 1.0)

    def test_a_job_has_a_beginning(self) -> None:
        assert simulate(constant(5, 1.0), EVERYWHERE, Driver(start=0.5)).wall == pytest.approx(1.5)

    def test_threads_overlap_the_waiting_of_calls_and_not_the_driver_s_own_work(self) -> None:
        waiting = simulate(constant(100, 1.0), EVERYWHERE, Driver(threads=10, call=0.5))
        working = simulate(constant(100, 1.0), EVERYWHERE, Driver(threads=10, call=0.1, dispatch=0.02))

        assert waiting.wall == pytest.approx(10 * 0.5 + 1.0)
        assert working.wall == pytest.approx(100 * 0.02 + 0.1 + 1.0)

    def test_replies_are_taken_one_after_another(self) -> None:
        out = simulate(constant(100, 1.0), EVERYWHERE, Driver(collect=0.03))

        assert out.wall == pytest.approx(1.0 + 100 * 0.03)

    def test_latency_is_paid_on_the_way_there_and_back(self) -> None:
        assert simulate(constant(5, 1.0), Platform(slots=5, latency=0.2), Driver()).wall == pytest.approx(1.4)

    def test_a_ramp_admits_a_burst_and_then_so_many_a_second(self) -> None:
        out = simulate(constant(50, 1.0), Platform(slots=1000, burst=10, ramp=4.0), Driver())
        # In the first second the ten of the burst and four more; from then on those that ended are there again.
        assert out.started == pytest.approx(3.0, abs=1.01)
        slow = simulate(constant(50, 100.0), Platform(slots=1000, burst=10, ramp=4.0), Driver())

        assert slow.started == pytest.approx(40 / 4.0)
        assert slow.wall == pytest.approx(110.0)

    def test_refused_calls_come_back_until_there_is_room(self) -> None:
        platform = Platform(slots=10, queues=False)
        out = simulate(constant(100, 1.0), platform, Driver(retry_first=0.01, retry_most=0.01))

        assert out.throttled > 90
        assert out.calls == 100 + out.throttled
        assert 10.0 <= out.wall < 10.2
        assert out.completed == [1] * 100

    def test_the_wait_for_a_refused_call_doubles_up_to_its_limit(self) -> None:
        platform = Platform(slots=1, queues=False)
        patient = simulate(constant(2, 50.0), platform, Driver(retry_first=1.0, retry_most=5.0))
        hasty = simulate(constant(2, 50.0), platform, Driver(retry_first=0.1, retry_most=0.1))

        # Waits of 3.75 s on average make some 13 calls in 50 s, after three shorter ones; of 0.075 s, some 670.
        assert 13 <= patient.throttled <= 18
        assert 620 < hasty.throttled < 720

    def test_results_in_a_storage_are_found_by_the_next_look(self) -> None:
        driver = Driver(polls=True, list_seconds=0.0)
        out = simulate(constant(10, 30.0), EVERYWHERE, driver)

        assert 30.0 <= out.wall <= 31.0
        assert out.lists < 50

    def test_a_lost_invocation_is_repeated_when_its_loss_is_noticed(self) -> None:
        out = simulate(dies_once(1, 4.0, {0}), Platform(slots=1, notice=10.0), Driver())

        assert (out.wall, out.lost, out.billed) == (pytest.approx(2.0 + 10.0 + 4.0), 1, [2.0, 4.0])

    def test_a_straggler_is_overtaken_by_its_copy(self) -> None:
        job = slow_once(20, 1.0, {3: 100.0})
        alone = simulate(job, EVERYWHERE, Driver())
        helped = simulate(job, EVERYWHERE, Driver(speculates=True))

        assert alone.wall == pytest.approx(100.0)
        assert helped.wall == pytest.approx(3 * 1.0 + 1.0, abs=0.11)
        assert helped.backups == 1

    def test_a_tenth_of_a_job_gets_copies_at_most(self) -> None:
        job = slow_once(100, 1.0, dict.fromkeys(range(30), 50.0))

        assert simulate(job, EVERYWHERE, Driver(speculates=True)).backups == 10

    @pytest.mark.parametrize(("kills", "billed"), [(True, 4.0), (False, 100.0)])
    def test_a_loser_that_cannot_be_ended_is_billed_to_its_end(self, kills: bool, billed: float) -> None:
        out = simulate(slow_once(20, 1.0, {3: 100.0}), Platform(slots=50, kills=kills), Driver(speculates=True))

        assert sum(out.billed) == pytest.approx(19 + 1 + billed, abs=0.11)

    def test_the_start_of_a_worker_is_billed_and_that_of_its_platform_is_not(self) -> None:
        out = simulate(constant(1, 1.0), Platform(slots=1, cold_median=7.0, init=0.5), Driver())

        assert (out.wall, out.billed) == (pytest.approx(8.5), [pytest.approx(1.5)])


class TestAlways:
    @settings(max_examples=60, deadline=None)
    @given(
        invocations=st.integers(1, 120),
        slots=st.integers(1, 40),
        seed=st.integers(0, 2**32),
        queues=st.booleans(),
        polls=st.booleans(),
        kills=st.booleans(),
        speculates=st.booleans(),
        failures=st.sampled_from([0.0, 0.1, 0.5]),
    )
    def test_every_invocation_is_completed_exactly_once(
        self,
        invocations: int,
        slots: int,
        seed: int,
        queues: bool,
        polls: bool,
        kills: bool,
        speculates: bool,
        failures: float,
    ) -> None:
        platform = Platform(
            slots, cold_median=0.3, cold_sigma=0.5, burst=5, ramp=10.0, latency=0.01, queues=queues, kills=kills
        )
        driver = Driver(0.01, 0.001, 0.001, threads=8, call=0.02, polls=polls, list_seconds=0.05, speculates=speculates)
        job = random_job(
            invocations, 0.2, spread=0.2, straggler_share=0.1, slowdown=5.0, tail=2.0, failure_share=failures
        )

        out = simulate(job, platform, driver, seed)

        assert out.completed == [1] * invocations
        assert math.isfinite(out.wall)
        assert out.backups <= max(1, 0.1 * invocations)
        assert invocations <= len(out.billed) <= out.calls
        assert out == simulate(job, platform, driver, seed)

    def test_another_seed_gives_another_outcome(self) -> None:
        job = random_job(20, 1.0, spread=0.3)

        assert simulate(job, EVERYWHERE, Driver(), 1).wall != simulate(job, EVERYWHERE, Driver(), 2).wall

    @settings(max_examples=30, deadline=None)
    @given(slots=st.integers(1, 60), seconds=st.floats(0.1, 10.0))
    def test_no_job_is_faster_than_its_work_shared_by_its_slots(self, slots: int, seconds: float) -> None:
        out = simulate(random_job(40, seconds, spread=0.5), Platform(slots=slots), Driver())

        assert out.wall >= sum(out.billed) / slots - 1e-9
        assert out.wall >= max(out.billed) - 1e-9


def test_stragglers_and_losses_come_as_often_as_asked_for() -> None:
    job = random_job(1, 1.0, straggler_share=0.05, slowdown=2.5, tail=3.4, failure_share=0.02)
    random = Random(7)
    draws = [job.draw(0, 0, random) for _ in range(40_000)]
    slow = [draw.seconds for draw in draws if draw.seconds > 1.0]

    assert len(slow) / len(draws) == pytest.approx(0.05, rel=0.1)
    assert sum(s > 5.0 for s in slow) / len(slow) == pytest.approx(2.0**-3.4, rel=0.2)
    assert sum(draw.dies is not None for draw in draws) / len(draws) == pytest.approx(0.02, rel=0.15)
