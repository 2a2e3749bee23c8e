import numpy as np
import pytest

from modeling_toxmtl.data.splits import Entry, assign_splits, group_entries


def entry(id, speaker, source, split="", duration=1.0):
    return Entry(id, speaker, source, split, ("NoViolation",), duration)


def test_groups_are_connected_by_speakers_and_sources():
    entries = [entry("a", "ann", "1"), entry("b", "ben", "1"), entry("c", "ben", "2"), entry("d", "dan", "3")]
    assert [[row.id for row in group] for group in group_entries(entries)] == [["a", "b", "c"], ["d"]]


@pytest.mark.parametrize("seed", range(5))
def test_splits_share_nothing_and_have_their_hours(seed):
    rng = np.random.default_rng(seed)
    entries = [
        entry(str(i), f"s{rng.integers(300)}", f"r{i // 2}", duration=float(rng.uniform(1, 15))) for i in range(200)
    ]
    splits = assign_splits(entries, {"train": 0.8, "validation": 0.05, "test": 0.15})
    for column in ("speaker", "source"):
        owners = {}
        for row in entries:
            owners.setdefault(getattr(row, column), set()).add(splits[row.id])
        assert all(len(names) == 1 for names in owners.values())
    largest = max(sum(row.duration for row in group) for group in group_entries(entries))
    total = sum(row.duration for row in entries)
    for name, share in {"train": 0.8, "validation": 0.05, "test": 0.15}.items():
        hours = sum(row.duration for row in entries if splits[row.id] == name)
        assert abs(hours - share * total) <= 2 * largest


def test_given_splits_are_kept_and_conflicts_refused():
    entries = [entry("a", "ann", "1", "test"), entry("b", "ben", "2")]
    assert assign_splits(entries, {"train": 1.0}) == {"a": "test", "b": "train"}
    with pytest.raises(ValueError, match=r"\['test', 'train'\].*\['ann'\]"):
        assign_splits([entry("a", "ann", "1", "test"), entry("b", "ann", "2", "train")], {"train": 1.0})


@pytest.mark.parametrize("split", ["dev", "Train", "training"])
def test_splits_of_other_names_are_refused(split):
    with pytest.raises(ValueError, match=f"'b'.*'{split}': give one of train, validation, test"):
        assign_splits([entry("a", "ann", "1", "train"), entry("b", "ben", "2", split)], {"train": 1.0})
