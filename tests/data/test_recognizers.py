import numpy as np
import pytest
from helpers import tiny_checkpoint

from modeling_toxmtl.data.recognizers import CTCRecognizer


def test_ctc_words_have_times_and_scores(tmp_path):
    recognizer = CTCRecognizer(str(tiny_checkpoint(tmp_path)))
    clips = [np.random.default_rng(0).normal(0, 0.1, size).astype(np.float32) for size in (16_000, 9_000)]
    together, alone = recognizer(clips), [recognizer([clip])[0] for clip in clips]
    assert [word.word for word in together[0].words] == [word.word for word in alone[0].words] != []
    assert together[0].confidence == pytest.approx(alone[0].confidence, abs=1e-5)
    for clip, heard in zip(clips, together, strict=True):
        assert all(0 <= word.start < word.end <= len(clip) / 16_000 for word in heard.words)
        assert all(0 <= word.score <= 1 for word in heard.words)
        assert "<" not in "".join(word.word for word in heard.words)
