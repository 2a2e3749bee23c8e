import json

import pytest
from helpers import tone, wav

from benchmarks import by_voice
from benchmarks.by_voice import ByVoiceArguments, group_of, main
from modeling_toxmtl.data.schema import Row, write_split


@pytest.mark.parametrize(
    ("speaker", "group"),
    [
        ("kokoro:jf_nezumi/en-us*1.00", "kokoro:jf_nezumi"),
        ("kokoro:jf_alpha:50+jf_tebukuro:50/en-us*1.14", "kokoro:blends"),
        ("piper:joe/en-us*1.08", "piper"),
        ("espeak:en-us+made7", "espeak"),
    ],
)
def test_group_of(speaker, group):
    assert group_of(speaker) == group


def test_figures_by_voice(tmp_path):
    """By hand: Joe's one keyword of two is heard, and nobody is accused; the other voice is accused of silence."""
    audio = wav(tone(1600))
    clips = [
        ("a", ("Profanity",), "damn it", "piper:joe/en-us*1.00", "template:insult-001"),
        ("b", ("Bullying",), "you idiot", "piper:joe/en-us*1.00", "template:insult-002"),
        ("c", ("NoViolation",), "hello", "espeak:en-us+m1", "template:everyday-test-0001"),
        ("d", ("NoViolation",), "", "none:hum", "background:hum"),
    ]
    rows = [Row(id, audio, 0.1, labels, text, who, source, "test") for id, labels, text, who, source in clips]
    write_split(rows, tmp_path, "test")
    scores = dict.fromkeys(("Profanity", "Bullying", "NoViolation"), 0.1)
    predicted = [
        {"id": "a", "scores": scores | {"Profanity": 0.9}, "violations": ["Profanity"], "words": ["damn", "good"]},
        {"id": "b", "scores": scores | {"Bullying": 0.9}, "violations": [], "words": ["good", "good"]},
        {"id": "c", "scores": scores, "violations": ["Bullying"], "words": ["good"]},
        {"id": "d", "scores": scores, "violations": [], "words": []},
    ]
    file = tmp_path / "predictions.jsonl"
    file.write_text("".join(json.dumps(clip) + "\n" for clip in predicted))
    results = main(ByVoiceArguments(str(file), str(tmp_path), results_file=str(tmp_path / "results.json")))
    assert list(results) == ["espeak", "no speech", "piper", "everyday sentences", "all"]
    assert (results["piper"]["keyword_recall"], results["piper"]["keyword_precision"]) == (50, 100)
    assert results["piper"]["mAP"] == 100 and results["piper"]["accused"] == 0
    assert (results["espeak"]["accused"], results["no speech"]["accused"], results["all"]["accused"]) == (100, 0, 50)
    assert results["everyday sentences"]["accused"] == 100 and results["everyday sentences"]["clips"] == 1
    assert "| piper | 2 | 2 | 66.7 | 100.0 | 50.0 | 100.0 | 0.0 |" in (tmp_path / "results.md").read_text()
    assert by_voice.markdown(results) + "\n" == (tmp_path / "results.md").read_text()
