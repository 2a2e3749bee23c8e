"""`toxmtl replay`: the same, or each difference by name."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import tiny_processor, tiny_speech_model, tone, wav
from moderation_helpers import run

from modeling_toxmtl import LABELS
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.moderation import moderate
from modeling_toxmtl.moderation.hearing import Listener
from modeling_toxmtl.moderation.inputs import Clip
from modeling_toxmtl.moderation.moderate import ModerateArguments, main
from modeling_toxmtl.moderation.record import describe_judge
from modeling_toxmtl.moderation.records import read_records
from modeling_toxmtl.moderation.replay import DECIDED, replay


NEW_THRESHOLDS, NEW_ENTRY = dict.fromkeys(LABELS, 0.41), KeywordEntry("damn", ("Profanity",))


def save_with_decoding(folder):
    processor = tiny_processor()
    processor.decoding = replace(processor.decoding, beam_width=3)
    processor.save_pretrained(folder)


def test_replay(folder, clips, tmp_path, capsys):
    output = tmp_path / "v.jsonl"
    main(ModerateArguments(str(folder), [str(clips)], output=str(output), format="jsonl", window=1.0, batch_size=3))
    capsys.readouterr()
    assert run("replay", str(output), str(clips / "6.wav")) == 0
    assert capsys.readouterr().out == "the same\n"
    (tmp_path / "moved").symlink_to(folder)
    assert run("replay", str(output), str(clips / "2.wav"), "--model", str(tmp_path / "moved")) == 0
    (tmp_path / "unknown.wav").write_bytes(wav(tone(5000)))
    assert run("replay", str(output), str(tmp_path / "unknown.wav")) == 1
    assert "no record of audio with the SHA-256" in capsys.readouterr().err


def test_replay_names_each_difference(folder, clips, tmp_path, capsys):
    """Other audio, another list, another model."""
    output = tmp_path / "v.jsonl"
    main(ModerateArguments(str(folder), [str(clips / "2.wav")], output=str(output), format="jsonl", window=1.0))
    capsys.readouterr()
    assert run("replay", str(output), str(clips / "3.wav")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("audio.sha256: ") and lines[-1] == "the verdict is another"
    (record,) = read_records(output)
    changed = {**record, "keyword_list": {**record["keyword_list"], "sha256": "0" * 64}}
    found = replay(changed, str(clips / "2.wav"))
    assert [line.partition(":")[0] for line in found] == ["keyword_list.sha256"]
    (tmp_path / "changed.jsonl").write_text(json.dumps(changed))
    assert run("replay", str(tmp_path / "changed.jsonl"), str(clips / "2.wav")) == 1
    assert capsys.readouterr().out.endswith("the verdict is the same, but not what it depends on\n")
    scores = np.array([item["score"] for item in record["labels"]])
    raised = [{**item, "score": round(min(item["score"] + 0.01, 1.0), 6)} for item in record["labels"]]
    found = replay({**record, "labels": raised}, str(clips / "2.wav"))
    assert len(found) == np.sum(scores + 1e-4 < 1) and all(".score: " in line for line in found)


@pytest.mark.parametrize(
    ("part", "save"),
    [
        ("thresholds", lambda folder: tiny_speech_model(label_thresholds=NEW_THRESHOLDS).save_pretrained(folder)),
        ("model", lambda folder: tiny_speech_model(seed=1).save_pretrained(folder)),
        ("keyword_list", lambda folder: tiny_processor(KeywordList([NEW_ENTRY])).save_pretrained(folder)),
        ("decoding", lambda folder: save_with_decoding(folder)),
    ],
)
def test_replay_names_what_changed_in_the_model_folder(folder, clips, tmp_path, part, save):
    """And nothing else of what the verdict depends on; the record is enough, wherever the folder is now."""
    path = str(clips / "2.wav")
    pipe = moderate.load_judge(str(folder))
    judge = describe_judge(pipe, window_seconds=1.0, stride_seconds=1.0)
    ((item,),) = Listener(pipe, judge).hear([Clip(path, path)])
    record = json.loads(json.dumps(item.record))
    assert replay(record, path) == []
    save(shutil.copytree(folder, tmp_path / "changed"))
    found = replay(record, path, str(tmp_path / "changed"))
    assert {line.partition(".")[0] for line in found if not line.startswith(DECIDED)} == {part}
