"""Progress in the words that people read."""

from workload_plane.models.progress import Rate, downloading, size, speed


def test_one_line_tells_how_far_and_how_fast() -> None:
    line = downloading("hf://org/name", 3_200_000_000, 14_000_000_000, 45_000_000.0)
    assert line == "downloading 3.2 of 14.0 GB (45 MB/s) from hf://org/name"
    assert "1.5 of 3.0 MB (0.1 MB/s)" in downloading("x", 1_500_000, 3_000_000, 123_456.0)


def test_sizes_and_speeds_take_the_unit_that_fits() -> None:
    assert [size(count) for count in (0, 999_000_000, 1_000_000_000)] == [
        "0.0 MB",
        "999.0 MB",
        "1.0 GB",
    ]
    assert [speed(rate) for rate in (0.0, 9_940_000.0, 1_234_000_000.0)] == [
        "0.0 MB/s",
        "9.9 MB/s",
        "1234 MB/s",
    ]


def test_the_rate_is_of_the_last_seconds_and_falls_to_zero_when_nothing_comes() -> None:
    rate = Rate()
    assert rate.bytes_per_second(0.0) == 0.0
    for second in range(20):
        rate.add(float(second), second * 100)
    assert rate.bytes_per_second(19.0) == 100.0
    for second in range(20, 40):
        rate.add(float(second), 1_900)
    assert rate.bytes_per_second(39.0) == 0.0
