"""The corpora of the study: classes in the paper's proportions, and nothing of one split in another."""

import json

import numpy as np
import pytest

from datasets_scripts import make_study_corpus, make_voice_corpus
from datasets_scripts.make_study_corpus import (
    REAL_WORLD_HOURS,
    TRAINING_HOURS,
    Candidate,
    StudyCorpusArguments,
    StudyTextGenerator,
    candidate_texts,
    choose,
    main,
    read_rows,
    sentences,
)
from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.data.statistics import hours_by_label
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION, VIOLATIONS


def shares(clips):
    hours = hours_by_label((clip.labels, clip.seconds) for clip in clips)
    return [hours[label] / hours["Total"] for label in LABELS]


def random_candidates(count, rng, known):
    candidates = []
    for row in range(count):
        labels = tuple(label for label in VIOLATIONS if rng.random() < 0.3) or (NO_VIOLATION,)
        candidates.append(Candidate(labels, rng.uniform(1, 9), row if known else None))
    return candidates


def test_clips_are_taken_in_the_proportions_of_the_table_whatever_they_last():
    rng = np.random.default_rng(0)
    candidates = random_candidates(3000, rng, known=True) + random_candidates(1000, rng, known=False)
    chosen = choose(candidates, TRAINING_HOURS, 400, 100, seed=0)
    assert len(set(map(id, chosen))) == 400 and sum(clip.row is None for clip in chosen) == 100
    paper = [TRAINING_HOURS[label] / TRAINING_HOURS["Total"] for label in LABELS]
    np.testing.assert_allclose(shares(chosen), paper, atol=0.02)
    assert np.mean([clip.seconds for clip in chosen]) == pytest.approx(5, abs=0.4)  # short ones are not preferred
    taken = [Candidate(("Racist",), 50.0)]
    rest = choose(candidates[:3000], TRAINING_HOURS, 400, 0, 0, taken)
    assert not any("Racist" in clip.labels for clip in rest[:3])
    np.testing.assert_allclose(shares([*taken, *rest]), paper, atol=0.02)
    with pytest.raises(ValueError, match="5000 clips are asked for, but there are 3000 and 1000 new ones"):
        choose(candidates, TRAINING_HOURS, 5000, 1000, seed=0)


@pytest.mark.slow
def test_labels_of_new_texts_are_as_frequent_as_in_the_table():
    said = set()
    generator = StudyTextGenerator("test", KeywordList.default(), said, REAL_WORLD_HOURS, 0.2)
    texts = [clip.text for clip in candidate_texts(generator, 400, seed=3)]
    violating = [set(text.labels) for text in texts if text.labels != (NO_VIOLATION,)]
    assert len(violating) / len(texts) == pytest.approx(1 - 1539.5 / 1733.5, abs=0.06)
    assert np.mean(["Profanity" in labels for labels in violating]) == pytest.approx(
        155.5 / (1733.5 - 1539.5), abs=0.2
    )
    assert all(set(text.labels) == {label for piece in text.pieces for label in piece.labels} or not text.keywords
               or text.labels == (NO_VIOLATION,) for text in texts)  # fmt: skip
    spoken = [text for text in texts if text.transcript]
    assert len(said) == len(spoken) == 400 * 24 // 25


@pytest.mark.slow
def test_corpora_share_nothing_and_go_on(tmp_path, monkeypatch):
    espeak = ("espeak",)
    monkeypatch.setattr(make_voice_corpus, "ENGINE_DECKS", dict.fromkeys(SPLITS, espeak))
    monkeypatch.setattr(make_study_corpus, "DECK", espeak)
    monkeypatch.setattr(make_study_corpus, "CLIPS_PER_SHARD", 3)
    voices = tmp_path / "voices"
    args = StudyCorpusArguments(str(voices), str(tmp_path / "study"), 14, 6, 7)
    with pytest.raises(FileNotFoundError, match="voices holds no finished corpus"):
        main(args)
    make_voice_corpus.main(make_voice_corpus.VoiceCorpusArguments(str(voices), 20, 3, 4, num_proc=1))
    main(args)
    study, real = tmp_path / "study", tmp_path / "study_real"
    files = {path: path.read_bytes() for folder in (study, real) for path in sorted(folder.rglob("*.*"))}

    rows = {split: list(read_rows(study, split)) for split in SPLITS}
    for split in ("validation", "test"):
        assert rows[split] == list(read_rows(voices, split))
    known = {row["id"]: row for row in read_rows(voices, "train")}
    assert len(rows["train"]) == 14 and sum(row["id"] not in known for row in rows["train"]) == 6
    assert all(row == known[row["id"]] for row in rows["train"] if row["id"] in known)
    real_rows = list(read_rows(real, "test"))
    everything = [*rows["train"], *rows["validation"], *rows["test"], *real_rows]
    assert len(real_rows) == 7 and len({row["id"] for row in everything}) == len(everything)
    said = [sentences(study, (split,)) - {()} for split in SPLITS] + [sentences(real, ("test",)) - {()}]
    assert sum(map(len, said)) == len(set().union(*said))
    train_speakers = {row["speaker"] for row in rows["train"] if row["transcript"]}
    assert train_speakers.isdisjoint({row["speaker"] for row in real_rows if row["transcript"]})

    next(study.glob("data/train-00002-*")).unlink()  # as if it had been killed
    (study / "manifest.json").write_text(
        json.dumps({"settings": json.loads(files[study / "manifest.json"])["settings"]})
    )
    main(args)
    assert {path: path.read_bytes() for path in files} == files
    card = (real / "README.md").read_text()
    assert "| Paper | 9.0 | 2.0 | 1.6 | 5.8 | 8.4 | 88.8 |" in card
