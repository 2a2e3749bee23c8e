"""How figures of scaling are made of rounds, and what the tables say."""

from matplotlib.figure import Figure

from benchmarks.scaling import AXES, draw, neighbours_table, powers_of_two, rounds_of, scaling_table


def test_the_first_round_does_not_count_and_medians_do():
    values = iter([100.0, 1.0, 9.0, 2.0, 50.0])
    assert rounds_of(lambda: {"a": next(values)}, rounds=3, seconds=60) == ({"a": 2.0}, 3)
    assert next(values) == 50.0
    values = iter([100.0, 1.0])
    assert rounds_of(lambda: {"a": next(values)}, rounds=3, seconds=0) == ({"a": 1.0}, 1)


def test_counts_are_powers_of_two_up_to_the_cores(monkeypatch):
    for cores, expected in ((1, [1]), (2, [1, 2]), (6, [1, 2, 4])):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert powers_of_two() == expected


def test_tables_by_hand():
    table = scaling_table({"ours": {"batch": {"1": 50.2, "8": 60.0}, "threads": {"1": 50.2}}})
    assert table.splitlines()[2:] == [
        "| ours | clips of 15 s at once | 1: 50 · 8: 60 |",
        "| ours | threads | 1: 50 |",
    ]
    table = neighbours_table({"ours": {"1": {"alone": 0.1, "beside": 0.11}, "2": {"alone": 0.06, "beside": 0.2}}})
    assert table.splitlines()[0] == "| System | 1 thread | 1 thread, busy core | 2 threads | 2 threads, busy core |"
    assert table.splitlines()[2] == "| ours | 0.100 | 0.110 | 0.060 | 0.200 |"


def test_the_plot_holds_all_points(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    heights = dict(zip(AXES, (50.0, 120.0, 60.0, 90.0), strict=True))
    draw({"ours": {axis: {"1": 40.0, "2": height} for axis, height in heights.items()}}, None)
    for panel in drawn[0].axes:
        assert panel.get_ylim()[0] == 0 and panel.get_ylim()[1] > 120
