"""The job state machine: barriers, watermarks, fences, the end; by hand-made reports and a clock that is a number."""

from __future__ import annotations

import pytest

from cython_shuffle.frames import MAX_WATERMARK_US
from sabot.errors import JobError, ShuffleError
from sabotd.agent.messages import (
    EpochDone,
    FenceReached,
    InjectBarrier,
    SourceDirty,
    SourcePassed,
    SplitWatermark,
    TaskFailed,
    TaskStanding,
)
from sabotd.control.job_state import Broken, Completed, Failed, Finished, Inject, JobPhase, JobState


def job(sources: dict[str, list[str]] | None = None) -> JobState:
    return JobState("mv:v", 1, sources or {"s/0": ["r"], "s/1": ["r"]}, frozenset({"m/0"}), 0.1)


def passed(task: str, epoch: int, *splits: SplitWatermark, finished: bool = False, attempt: int = 1) -> SourcePassed:
    return SourcePassed("mv:v", attempt, task, epoch, splits, finished, 10, 100, 0)


def split(name: str, watermark: int | None, *, idle: bool = False) -> SplitWatermark:
    return SplitWatermark("r", name, watermark, idle)


def done(epoch: int) -> EpochDone:
    return EpochDone("mv:v", 1, "m/0", epoch, 5)


def dirty() -> SourceDirty:
    return SourceDirty("mv:v", 1, "s/0")


def run_epoch(state: JobState, now: float, *reports: SourcePassed) -> list[object]:
    out: list[object] = []
    for report in (*reports, done(state.epoch)):
        out += state.report(report, now)
    return out


def test_first_barrier_goes_out_at_once_and_the_next_only_when_there_is_something() -> None:
    state = job()
    (first,) = state.begin(10.0)
    assert isinstance(first, Inject)
    assert first.barrier.epoch == 1
    assert state.due() is None, "one epoch at a time"
    assert run_epoch(state, 10.01, passed("s/0", 1), passed("s/1", 1)) == [Completed(1)]
    assert state.due() is None, "nothing waits for a barrier: an idle job costs nothing"
    assert state.report(dirty(), 10.05) == []
    assert state.due() == pytest.approx(10.1)
    (second,) = state.tick(10.1)
    assert isinstance(second, Inject)
    assert second.barrier.epoch == 2


def test_a_long_epoch_makes_the_next_longer_but_not_without_end() -> None:
    state = job()
    state.begin(10.0)
    for began, took, due in ((10.0, 0.02, 10.1), (10.1, 0.1, 10.4), (10.4, 9.0, 19.4)):
        epoch = state.epoch
        state.report(dirty(), began)
        out = run_epoch(state, began + took, passed("s/0", epoch), passed("s/1", epoch))
        if took > 1:
            assert isinstance(out[-1], Inject), "no longer than ten intervals: it is due already"
            return
        assert out == [Completed(epoch)]
        assert state.due() == pytest.approx(due)
        state.tick(due)


def test_rows_after_a_quiet_time_get_their_barrier_at_once() -> None:
    state = job()
    state.begin(10.0)
    run_epoch(state, 10.01, passed("s/0", 1), passed("s/1", 1))
    (inject,) = state.report(dirty(), 50.0)
    assert isinstance(inject, Inject)


def test_an_epoch_waits_for_every_source_and_every_sink() -> None:
    state = job()
    state.begin(0.0)
    assert state.report(done(1), 0.0) == []
    assert state.report(passed("s/0", 1), 0.0) == []
    assert state.report(passed("s/1", 1), 0.0) == [Completed(1)]


def test_watermark_is_the_least_of_the_splits_one_barrier_later_and_never_goes_back() -> None:
    state = job()
    state.begin(0.0)
    out = run_epoch(state, 1.0, passed("s/0", 1, split("a", 50)), passed("s/1", 1, split("b", 30)))
    (inject,) = [i for i in out if isinstance(i, Inject)]
    assert inject.barrier.watermarks_us == {"r": 30}
    assert {s.split: s.watermark_us for s in inject.barrier.splits} == {"a": 50, "b": 30}
    out = run_epoch(state, 2.0, passed("s/0", 2, split("a", 60)), passed("s/1", 2, split("b", 20)))
    assert not any(isinstance(i, Inject) for i in out), "no progress: nothing to carry"
    assert state.watermarks_us == {"r": 30}


def test_splits_without_a_row_hold_the_watermark_and_idle_ones_do_not() -> None:
    state = job()
    state.begin(0.0)
    run_epoch(state, 1.0, passed("s/0", 1, split("a", 50)), passed("s/1", 1, split("b", None)))
    assert state.watermarks_us == {"r": None}
    state.report(dirty(), 2.0)
    run_epoch(state, 3.0, passed("s/0", 2, split("a", 50)), passed("s/1", 2, split("b", None, idle=True)))
    assert state.watermarks_us == {"r": 50}


def test_all_idle_forwards_the_greatest() -> None:
    state = job()
    state.begin(0.0)
    run_epoch(state, 1.0, passed("s/0", 1, split("a", 50, idle=True)), passed("s/1", 1, split("b", 70, idle=True)))
    assert state.watermarks_us == {"r": 70}


def test_the_end_of_all_sources_sends_a_final_barrier_that_closes_everything() -> None:
    state = job()
    state.begin(0.0)
    state.report(passed("s/0", 1, finished=True), 0.5)
    out = run_epoch(state, 1.0, passed("s/1", 1, finished=True))
    (inject,) = [i for i in out if isinstance(i, Inject)]
    assert inject.barrier.final
    assert inject.barrier.watermarks_us == {"r": MAX_WATERMARK_US}
    assert run_epoch(state, 1.1, passed("s/0", 2, finished=True), passed("s/1", 2, finished=True)) == [
        Completed(2),
        Finished(),
    ]
    assert state.phase is JobPhase.FINISHED


def test_a_fence_passes_when_its_epoch_is_complete() -> None:
    state = job()
    state.begin(0.0)
    run_epoch(state, 0.01, passed("s/0", 1), passed("s/1", 1))
    state.fence(7)
    out = state.report(FenceReached("mv:v", 1, "s/0", 7, 2), 0.02)
    assert [type(i) for i in out] == [Inject], "a fence asks for a barrier, and at once"
    assert not state.fence_passed(7)
    state.report(FenceReached("mv:v", 1, "s/1", 7, 2), 0.03)
    assert not state.fence_passed(7)
    run_epoch(state, 1.1, passed("s/0", 2), passed("s/1", 2))
    assert state.fence_passed(7)


def test_a_fence_in_an_epoch_already_complete_passes_at_once() -> None:
    state = job({"s/0": ["r"]})
    state.begin(0.0)
    run_epoch(state, 0.01, passed("s/0", 1))
    state.fence(1)
    state.report(FenceReached("mv:v", 1, "s/0", 1, 1), 0.02)
    assert state.fence_passed(1)


def test_a_fence_waits_for_the_windows_that_its_rows_close() -> None:
    state = job({"s/0": ["r"]})
    state.begin(0.0)
    run_epoch(state, 0.01, passed("s/0", 1))
    state.fence(1)
    state.report(FenceReached("mv:v", 1, "s/0", 1, 2), 0.02)
    out = run_epoch(state, 0.03, passed("s/0", 2, split("a", 50)))
    (inject,) = [i for i in out if isinstance(i, Inject)]
    assert inject.barrier.watermarks_us == {"r": 50}, "and this barrier goes out at once"
    assert not state.fence_passed(1)
    run_epoch(state, 0.04, passed("s/0", 3, split("a", 60)))
    assert state.fence_passed(1), "later rows do not hold it up"


def test_a_fence_waits_for_the_end_of_a_finite_source() -> None:
    state = job({"s/0": ["r"]})
    state.begin(0.0)
    run_epoch(state, 0.01, passed("s/0", 1))
    state.fence(1)
    state.report(FenceReached("mv:v", 1, "s/0", 1, 2), 0.02)
    (_, inject) = run_epoch(state, 0.03, passed("s/0", 2, finished=True))
    assert isinstance(inject, Inject)
    assert inject.barrier.final
    assert not state.fence_passed(1)
    run_epoch(state, 0.04, passed("s/0", 3, finished=True))
    assert state.fence_passed(1)


def test_a_source_that_has_ended_no_longer_holds_the_watermark_of_another() -> None:
    state = job({"s/0": ["r"], "t/0": ["q"]})
    state.begin(0.0)
    reports = (passed("s/0", 1, split("a", 50, idle=True), finished=True), passed("t/0", 1))
    (inject,) = [i for i in run_epoch(state, 1.0, *reports) if isinstance(i, Inject)]
    assert inject.barrier.watermarks_us == {"r": MAX_WATERMARK_US, "q": None}
    assert not inject.barrier.final


def test_failure_is_told_once_and_later_reports_say_nothing() -> None:
    state = job()
    state.begin(0.0)
    error = JobError("disk full").to_wire()
    assert state.report(TaskFailed("mv:v", 1, "m/0", error), 1.0) == [Failed(error)]
    assert state.report(TaskFailed("mv:v", 1, "s/0", error), 1.0) == []
    assert state.due() is None
    assert state.error == "disk full"


def test_reports_of_another_attempt_are_ignored() -> None:
    state = job({"s/0": ["r"]})
    state.begin(0.0)
    state.report(passed("s/0", 1, attempt=0), 0.1)
    state.report(done(1), 0.1)
    assert state.completed == 0


def standing(task: str, *, injected: int = 0, passed_: int = 0, completed: int = 0) -> TaskStanding:
    barrier = InjectBarrier("mv:v", 1, injected, {"r": 40 + injected}, ()) if injected else None
    return TaskStanding(task, barrier, passed(task, passed_, split(task, 50)) if passed_ else None, completed)


def test_a_job_taken_over_between_epochs_goes_on_with_the_next() -> None:
    state = job()
    tasks = [
        standing("s/0", injected=7, passed_=7),
        standing("s/1", injected=7, passed_=7),
        standing("m/0", completed=7),
    ]
    (inject,) = state.resume(tasks, 7, 100.0)
    assert isinstance(inject, Inject)
    assert (inject.barrier.epoch, inject.barrier.watermarks_us) == (8, {"r": 50})
    assert state.phase is JobPhase.RUNNING
    assert run_epoch(state, 100.1, passed("s/0", 8, split("s/0", 50)), passed("s/1", 8, split("s/1", 50))) == [
        Completed(8)
    ]


def test_a_barrier_that_had_reached_some_sources_is_sent_again_as_it_was() -> None:
    state = job()
    tasks = [
        standing("s/0", injected=8, passed_=8),
        standing("s/1", injected=7, passed_=7),
        standing("m/0", completed=7),
    ]
    (again,) = state.resume(tasks, 7, 100.0)
    assert isinstance(again, Inject)
    assert (again.barrier.epoch, again.barrier.watermarks_us) == (8, {"r": 48})
    assert state.report(done(8), 100.1) == []
    assert state.report(passed("s/1", 8, split("s/1", 50)), 100.1)[0] == Completed(8)


def test_an_end_that_nobody_was_there_to_hear_of_is_heard_of() -> None:
    state = job()
    final = InjectBarrier("mv:v", 1, 9, {"r": MAX_WATERMARK_US}, (), final=True)
    tasks = [TaskStanding(t, final, passed(t, 9, finished=True), 0) for t in ("s/0", "s/1")]
    out = state.resume([*tasks, standing("m/0", completed=9)], 9, 100.0)
    assert Finished() in out
    assert state.phase is JobPhase.FINISHED


def test_a_pause_is_reached_when_all_that_was_read_is_visible() -> None:
    state = job()
    state.begin(0.0)
    run_epoch(state, 0.01, passed("s/0", 1), passed("s/1", 1))
    state.fence(1)
    state.pause(2)
    assert state.fence_passed(1), "what FLUSH waits for is not going to be read"
    assert not state.fence_passed(2)
    out = state.report(FenceReached("mv:v", 1, "s/0", 2, 2), 0.02)
    assert [type(i) for i in out] == [Inject], "what has been read goes out at once"
    state.report(FenceReached("mv:v", 1, "s/1", 2, 2), 0.02)
    assert not state.fence_passed(2)
    run_epoch(state, 0.03, passed("s/0", 2), passed("s/1", 2))
    assert state.fence_passed(2)
    assert state.due() is None, "a paused job costs nothing"
    state.unpause()
    state.fence(3)
    assert not state.fence_passed(3), "FLUSH waits again"


def test_a_paused_job_whose_source_had_ended_finishes() -> None:
    state = job({"s/0": ["r"]})
    state.begin(0.0)
    state.pause(1)
    state.report(FenceReached("mv:v", 1, "s/0", 1, 1), 0.01)
    run_epoch(state, 0.02, passed("s/0", 1, finished=True))
    run_epoch(state, 0.03, passed("s/0", 2, finished=True))
    assert state.phase is JobPhase.FINISHED
    assert state.fence_passed(1)


def test_a_paused_job_that_loses_tasks_is_broken_as_any() -> None:
    state = job()
    state.begin(0.0)
    state.pause(1)
    error = ShuffleError("agent 'a1' was lost").to_wire()
    assert state.report(TaskFailed("mv:v", 1, "s/0", error), 1.0) == [Broken(error)]


def test_a_job_that_waits_for_the_clock_gets_barriers_without_rows_and_its_time_never_goes_back() -> None:
    times = iter((1_000, 2_000, 1_500, 3_000))
    state = JobState("mv:v", 1, {"s/0": ["r"]}, frozenset({"m/0"}), 0.1, lambda: next(times), 2.0)
    (first,) = state.begin(0.0)
    assert isinstance(first, Inject)
    assert first.barrier.now_us == 1_000
    assert run_epoch(state, 0.1, passed("s/0", 1)) == [Completed(1)]
    assert state.due() == 2.0
    assert state.tick(1.9) == []
    (second,) = state.tick(2.0)
    assert isinstance(second, Inject)
    assert (second.barrier.now_us, second.barrier.watermarks_us) == (2_000, {"r": None})
    run_epoch(state, 2.1, passed("s/0", 2))
    state.report(dirty(), 2.1)
    state.tick(2.2)
    assert state.now_us == 2_000


def test_a_job_that_waits_for_the_clock_goes_on_after_its_sources() -> None:
    state = JobState("mv:v", 1, {"s/0": ["r"]}, frozenset({"m/0"}), 0.1, lambda: 7, 2.0)
    state.begin(0.0)
    assert run_epoch(state, 0.05, passed("s/0", 1, finished=True)) == [Completed(1)]
    # one more, with the watermark of the end
    (closing,) = state.tick(0.2)
    assert isinstance(closing, Inject)
    assert closing.barrier.watermarks_us == {"r": MAX_WATERMARK_US}
    assert not closing.barrier.final
    assert run_epoch(state, 0.25, passed("s/0", 2, finished=True)) == [Completed(2)]
    assert state.phase is JobPhase.RUNNING
    assert state.due() == pytest.approx(2.2)
