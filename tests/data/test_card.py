from helpers import dataset_of, record
from huggingface_hub import DatasetCard

from modeling_toxmtl.data.card import facts_of, render_dataset_card


def clips(*speakers: str):
    return facts_of(
        dataset_of(
            *(record(str(i), b"", ["Racist"], duration=1800.0, speaker=name) for i, name in enumerate(speakers))
        )
    )


def test_dataset_card():
    card = render_dataset_card(
        {"train": clips("ann", "bob", "ann"), "test": clips("cid")}, "me/clips", "cc0-1.0", "en"
    )
    racist = 3  # its column, after split and clips
    rows = [line.split(" | ") for line in card.splitlines() if line.startswith(("| train", "| test"))]
    assert [(row[0], row[1], row[1 + racist], row[-1]) for row in rows] == [
        ("| train", "3", "1.500", "1.500 |"),
        ("| test", "1", "0.500", "0.500 |"),
    ]
    assert "Speakers: 2 in train, 1 in test. No speaker is heard in two splits." in card and "![" not in card
    data = DatasetCard(card).data
    assert (data.license, data.language, data.pretty_name) == ("cc0-1.0", "en", "me/clips")
    assert [file["split"] for file in data.configs[0]["data_files"]] == ["train", "test"]


def test_shared_speakers_are_said():
    shared = render_dataset_card(
        {"train": clips("ann"), "test": clips("ann")}, "x", "mit", "de", figure="durations.png"
    )
    assert "Speakers heard in more than one split: 1" in shared and "![Durations](durations.png)" in shared
