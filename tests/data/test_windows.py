"""Laws of windows and splits."""

import numpy as np
import pytest
import torch
from files import write_series, write_trajectories
from torch.testing import assert_close

from forecast_cli.data.fields import Fields, open_fields
from forecast_cli.data.windows import (
    HeldFrames,
    Part,
    ReadFrames,
    Windows,
    _counts,
    beyond_record,
    order,
    parse_bytes,
    require_windows,
    split,
)
from forecast_cli.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Fields:
    """60 frames, six-hourly from 2000-01-01."""
    return open_fields([str(write_series(tmp_path_factory.mktemp("windows") / "series.nc"))])


@pytest.fixture(scope="module")
def trajectories(tmp_path_factory) -> Fields:
    """6 samples of 20 frames."""
    return open_fields([str(write_trajectories(tmp_path_factory.mktemp("windows") / "trajectories.nc"))])


class Numbered:
    """Frames that say which they are: (sample, frame)."""

    def window(self, sample: int, start: int, length: int) -> torch.Tensor:
        return torch.tensor([[sample, frame] for frame in range(start, start + length)])


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (None, (range(42), range(42, 51), range(51, 60))),
        ((0.5, 0.25), (range(30), range(30, 45), range(0))),
        ((0.5, 0, 0.5), (range(30), range(30, 30), range(30, 60))),
        ((30, 10, 5), (range(30), range(30, 40), range(40, 45))),
        (("30", "20", "10"), (range(30), range(30, 50), range(50, 60))),
        (("2000-01-01:2000-01-10", "2000-01-11", "2000-01-12:"), (range(40), range(40, 44), range(44, 60))),
        ((":2000-01-05T06:00", "2000-01-06/2000-01-07"), (range(18), range(20, 28), range(0))),
    ],
)
def test_a_series_is_split_along_time(series, shares, expected):
    parts = split(series, shares)
    assert [list(part.frames) for part in parts] == [list(frames) for frames in expected]
    assert all(part.samples == range(1) for part in parts)


@pytest.mark.parametrize(
    ("size", "shares", "counts"),
    [
        (11, (0.7, 0.15, 0.15), [8, 1, 2]),  # ends at 7.7, 9.35 and 11: nearest are 8, 9 and 11
        (7, (0.7, 0.15, 0.15), [5, 1, 1]),  # 4.9, 5.95, 7: none is cut down to 4 or 5
        (8, (0.3, 0.4, 0.3), [2, 4, 2]),  # 2.4, 5.6, 8
        (8, (0.2, 0.2), [2, 1]),  # 1.6, 3.2
        (10, (1 / 3, 1 / 3, 1 / 3), [3, 4, 3]),  # 3.33, 6.67, 10
        (6, (0.9, 0.1), [5, 1]),  # 5.4, 6
    ],
)
def test_fractions_end_at_the_nearest_frame(size, shares, counts):
    assert _counts(shares, size, "time") == counts


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (None, (range(5), range(5, 6), range(0))),
        ((4, 1, 1), (range(4), range(4, 5), range(5, 6))),
        (("2:6", ":2"), (range(2, 6), range(2), range(0))),
    ],
)
def test_trajectories_are_split_along_sample(trajectories, shares, expected):
    parts = split(trajectories, shares)
    assert [list(part.samples) for part in parts] == [list(samples) for samples in expected]
    assert all(part.frames == range(20) for part in parts)


def test_trajectories_may_be_split_along_time(trajectories):
    parts = split(trajectories, ("0:10", "10:15", "15:20"), "time")
    assert [part.frames for part in parts] == [range(10), range(10, 15), range(15, 20)]
    assert parts.test.samples == range(6)


@pytest.mark.parametrize(
    "shares",
    [
        (0.7,),
        (0.25,) * 4,
        (0.9, 0.3),
        (50, 20, 10),
        (10.5, 2, 2),
        (-0.1, 0.5, 0.1),
        ("a", "b", "c"),
        (0, 0.5, 0.5),
        ("2010:2011", "2012:2013"),
        ("nan", 1, 1),
        ("2000-01-01:soon", "2000-01-12:"),
    ],
)
def test_shares_that_do_not_fit_are_an_error_of_the_user(series, shares):
    with pytest.raises(ConfigError, match=r"--split|expected a date"):
        split(series, shares)


def test_a_series_cannot_be_split_along_sample(series):
    with pytest.raises(ConfigError, match="no sample dimension"):
        split(series, None, "sample")


def test_positions_are_asked_for_where_there_are_no_dates(trajectories):
    with pytest.raises(ConfigError, match="expected positions start:stop"):
        split(trajectories, ("2000-01-01:2000-01-02", "3:4"))


@pytest.mark.parametrize("stride", [1, 3, 7])
def test_a_series_gives_every_window_at_the_stride(stride):
    windows = Windows(Numbered(), Part(range(1), range(10, 30)), length=6, stride=stride)
    starts = [windows.place(i)[1] for i in range(len(windows))]
    assert starts == list(range(10, 25, stride))
    assert windows.batch([len(windows) - 1]).frames[0, -1, 1] < 30
    assert windows.place(1, epoch=5) == windows.place(1)


def test_trajectories_give_one_window_each_inside_the_part():
    windows = Windows(Numbered(), Part(range(4, 9), range(3, 20)), length=6, is_trajectories=True, seed=3)
    assert len(windows) == 5
    drawn = torch.stack([windows.batch(range(5), epoch).frames for epoch in range(60)])
    assert (drawn[..., 0] == torch.arange(4, 9)[:, None]).all()
    starts = drawn[:, :, 0, 1]
    assert set(starts.flatten().tolist()) == set(range(3, 15))
    assert (drawn[..., 1].diff(dim=-1) == 1).all()


def test_a_draw_depends_on_seed_epoch_and_index_alone():
    def starts(seed: int, epoch: int, samples: int = 40) -> list[int]:
        windows = Windows(Numbered(), Part(range(samples), range(500)), length=5, is_trajectories=True, seed=seed)
        return [windows.place(i, epoch)[1] for i in reversed(range(samples))][::-1]

    assert starts(1, 2) == starts(1, 2)
    assert starts(1, 2)[:10] == starts(1, 2, samples=10)
    assert starts(1, 2) != starts(1, 3)
    assert starts(1, 2) != starts(2, 2)
    assert len(set(starts(1, 2))) > 20


def test_validation_windows_are_the_same_in_every_epoch():
    windows = Windows(Numbered(), Part(range(2), range(20)), length=6, is_trajectories=True)
    taken = [[windows.place(i, epoch) for i in range(len(windows))] for epoch in (0, 9)]
    assert taken[0] == taken[1] == [(0, 0), (0, 6), (0, 12), (1, 0), (1, 6), (1, 12)]


@pytest.mark.parametrize("options", [{}, {"is_trajectories": True}, {"is_trajectories": True, "seed": 1}])
def test_a_part_that_is_too_short_or_empty_has_no_windows(options):
    assert len(Windows(Numbered(), Part(range(3), range(5)), length=6, **options)) == 0
    assert len(Windows(Numbered(), Part(range(0), range(9)), length=6, **options)) == 0
    assert len(Windows(Numbered(), Part(range(3), range(6)), length=6, **options)) == 3


def test_a_part_without_room_for_a_window_says_what_to_do(series):
    with pytest.raises(
        DataError, match=r"the training part has 5 frames, but context=4 and horizon=2 need 6\. Shorten"
    ):
        require_windows(Part(range(1), range(5)), 6, "training", series, 4, 2)
    require_windows(Part(range(1), range(6)), 6, "training", series, 4, 2)
    require_windows(Part(range(1), range(0)), 6, "validation", series, 4, 2)


def test_every_epoch_visits_all_in_its_own_order():
    orders = [order(50, seed=1, epoch=epoch).tolist() for epoch in range(3)]
    assert all(sorted(visited) == list(range(50)) for visited in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[1] == order(50, seed=1, epoch=1).tolist()
    assert orders[1] != order(50, seed=2, epoch=1).tolist()


def test_held_windows_are_views_of_one_storage(series):
    held = HeldFrames(series.read, [Part(range(1), range(10, 40))])
    first, second = held.window(0, 10, 6), held.window(0, 12, 6)
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert_close(first[2:], second[:4], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["series", "trajectories"])
def test_frames_read_from_the_file_equal_those_held(name, request):
    fields = request.getfixturevalue(name)
    part = Part(range(fields.samples), range(5, 18))
    held, read = HeldFrames(fields.read, [part]), ReadFrames(fields.read)
    for sample in part.samples:
        assert_close(held.window(sample, 7, 6), read.window(sample, 7, 6), rtol=0, atol=0)
        np.testing.assert_array_equal(read.window(sample, 5, 13).numpy(), fields.read(sample, 5, 18))


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 * 2**20), ("2G", 2**31), ("1.5 k", 1536), ("100", 100), ("1TiB", 2**40), (" 3 MB ", 3 * 2**20)],
)
def test_sizes_are_read_in_powers_of_1024(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "2X", "-1G", "1.2.3G", ".", "G"])
def test_what_is_no_size_is_an_error_of_the_user(text):
    with pytest.raises(ConfigError, match=r"data\.memory"):
        parse_bytes(text)


@pytest.mark.parametrize("shares", ["2000-01:2000-01-06,2000-01-05:2000-01-08", "2000-01-01:,2000-01-12:,2000-01-14:"])
def test_parts_that_overlap_are_refused(shares, series):
    with pytest.raises(ConfigError, match="overlap"):
        split(series, shares.split(","))


@pytest.mark.parametrize(
    ("shares", "lengths"),
    [
        # 30.6, 45.6 and 60 frames end the parts.
        ((0.51, 0.25, 0.24), [31, 15, 14]),
        # 14.4, 28.8 and 43.2 do; each share by itself would be 14.
        ((0.24, 0.24, 0.24), [14, 15, 14]),
    ],
)
def test_fractions_are_rounded_at_their_running_sums(series, shares, lengths):
    parts = split(series, shares)
    assert [len(part.frames) for part in parts] == lengths
    assert parts.test.frames.stop == sum(lengths)


@pytest.mark.parametrize(
    ("shares", "range_outside"),
    [
        ("2000-01-01:2000-01-10,2000-01-11:2000-01-15,2000-02", "2000-02"),
        ("2000-01-01:2000-01-10,1999", "1999"),
        ("2001:2002,2000-01-11:", "2001:2002"),
        ("2000-01-10:2000-01-05,2000-01-11:", "2000-01-10:2000-01-05"),
    ],
)
def test_a_part_outside_the_record_is_refused_with_the_dates_of_the_record(shares, range_outside, series):
    with pytest.raises(
        ConfigError, match=f"--split {range_outside}: .* from 2000-01-01T00:00:00 to 2000-01-15T18:00:00"
    ):
        split(series, shares.split(","))


@pytest.mark.parametrize("part", ["6:9", "20:", "4:2", "7/8"])
def test_a_part_beyond_the_last_sample_is_refused_with_their_number(part, trajectories):
    with pytest.raises(ConfigError, match=f"--split {part}: .* 6 along sample"):
        split(trajectories, ("0:2", part))


def test_a_part_may_be_empty_on_purpose(trajectories):
    assert [len(part.samples) for part in split(trajectories, ("0:4", "4:4", "4:6"))] == [4, 0, 2]


@pytest.mark.parametrize(
    ("shares", "outside"),
    [
        ("1999:2000-01-10,2000-01-11:2000-01-13,2000-01-14:2012", ["1999:2000-01-10", "2000-01-14:2012"]),
        ("1999-12-31T18:2000-01-10,2000-01-11:2000-01-16", ["1999-12-31T18:2000-01-10", "2000-01-11:2000-01-16"]),
        # Days, months and years that the record covers in part are inside, as are open ends.
        ("2000-01-01:2000-01-10,2000-01-11:2000-01-15", []),
        (":2000-01-10,2000-01-11:2000", []),
        ("0.7,0.15,0.15", []),
    ],
)
def test_ranges_that_leave_the_record_in_part_are_listed(shares, outside, series):
    found = beyond_record(series, shares.split(","))
    assert len(found) == len(outside)
    assert all(f"--split {text}: " in sentence for text, sentence in zip(outside, found, strict=True))


def test_positions_that_leave_the_record_in_part_are_listed(trajectories):
    assert beyond_record(trajectories, ("0:4", "4:6")) == []
    assert "the data have 6 along sample" in beyond_record(trajectories, ("0:4", "4:7"))[0]
    assert "the data have 20 along time" in beyond_record(trajectories, ("0:10", "10:21"), "time")[0]
