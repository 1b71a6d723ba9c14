"""Where a task stood at its barriers, as the next process finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cython_shuffle.hold import WriterPlace
from sabot.errors import JobError
from sabotd.agent.messages import InjectBarrier
from sabotd.agent.places import BarrierPlace, EpochFile, PlaceLog, SourcePlace


def place(epoch: int) -> BarrierPlace:
    inject = InjectBarrier("mv:v", 3, epoch, {"t": None}, ())
    return BarrierPlace(inject, (SourcePlace("t", "74.1", 100 * epoch),), {"e": WriterPlace((epoch, 2 * epoch), 1)})


def test_the_next_process_finds_the_last_places(tmp_path: Path) -> None:
    log = PlaceLog(tmp_path / "t.places", resume=False)
    for epoch in range(1, 2000):
        log.add(place(epoch))
    assert (tmp_path / "t.places").stat().st_size < 100_000, "a job that runs for months keeps little"
    with (tmp_path / "t.places").open("ab") as file:
        file.write(b'{"inject":{"job_id":"mv:v"')  # cut off by a kill
    again = PlaceLog(tmp_path / "t.places", resume=True)
    assert again.at(1998) == place(1998)
    assert again.after(1998) == [place(1999)]
    with pytest.raises(JobError, match="barrier 7 is not known"):
        again.at(7)
    again.add(place(2000))
    assert PlaceLog(tmp_path / "t.places", resume=True).after(1999) == [place(2000)]
    assert PlaceLog(tmp_path / "t.places", resume=False).places == []


def test_the_epoch_is_there_for_the_next_process(tmp_path: Path) -> None:
    file = EpochFile(tmp_path / "m.epoch")
    assert file.read() == 0
    file.write(2**40)
    assert EpochFile(tmp_path / "m.epoch").read() == 2**40
