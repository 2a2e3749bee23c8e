import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from helpers import tiny_checkpoint
from hub_server import HubServer
from pipeline_helpers import write_recordings

from datasets_scripts.pipeline_demo import small_text_model
from modeling_toxmtl.data import annotate, build, chunk, label, run, transcribe
from modeling_toxmtl.data.annotate import AnnotateArguments, AnnotateStage, find_keywords
from modeling_toxmtl.data.build import BuildArguments
from modeling_toxmtl.data.label import (
    KeywordArguments,
    KeywordFilter,
    LabelArguments,
    LabelStage,
    combine_scores,
)
from modeling_toxmtl.data.recognizers import CTCRecognizer
from modeling_toxmtl.data.recordings import RecordingsArguments
from modeling_toxmtl.data.rules import RuleFilter
from modeling_toxmtl.data.schema import TRACED_FEATURES
from modeling_toxmtl.data.shards import Rejected, read_rows
from modeling_toxmtl.data.splits import Entry, assign_splits, group_entries
from modeling_toxmtl.data.stages import WorkArguments, read_manifest
from modeling_toxmtl.data.statistics import hours_by_label, render_hours
from modeling_toxmtl.data.text_filter import TextFilterArguments, read_texts, train
from modeling_toxmtl.data.transcribe import TranscribeStage
from modeling_toxmtl.data.transcripts import GivenTranscripts, Transcription, Word, split_phrases, spread_words
from modeling_toxmtl.io.files import file_hash
from modeling_toxmtl.keywords import KeywordEntry, KeywordList
from modeling_toxmtl.labels import LABELS, VIOLATIONS
from run_mtl import main as run_mtl
from run_mtl import parse_arguments


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a whole run over six recordings with given transcripts."""
    folder = tmp_path_factory.mktemp("pipeline")
    run_all(folder, write_recordings(folder / "raw", 6))
    return folder


def run_all(folder, recordings, output="data", engine="local", **transcribing):
    transcribing = transcribing or {"transcripts": str(folder / "transcripts.jsonl")}
    return run.main(
        RecordingsArguments(str(recordings), files_per_shard=2),
        chunk.ChunkStage(),
        transcribe.TranscribeStage(**transcribing),
        label.LabelArguments(),
        label.KeywordArguments(),
        annotate.AnnotateArguments(),
        build.BuildArguments(str(folder / output), validation_share=0.2, test_share=0.3),
        WorkArguments(str(folder / "work"), engine=engine, num_proc=1),
    )


def load(folder, tmp_path):
    return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))


def test_recordings_become_a_data_set(made, tmp_path):
    splits = load(made / "data", tmp_path)
    rows = [row for split in splits.values() for row in split]
    assert len(rows) == 12 and len({row["id"] for row in rows}) == 12
    assert all(split.features == TRACED_FEATURES for split in splits.values())
    texts = sorted((row["asr_transcript"], tuple(row["labels"])) for row in rows)
    assert texts == [
        *[("a nice crap game", ("Profanity",))] * 3,
        *[("hello my friend", ("NoViolation",))] * 6,
        *[("shut up you idiot", ("Bullying",))] * 3,
    ]


def test_every_row_says_how_it_came_about(made, tmp_path):
    settings = json.loads((made / "data" / "pipeline.json").read_text())
    for split in load(made / "data", tmp_path).values():
        for row in split:
            recording = made / "raw" / row["source"]
            assert file_hash(recording) == row["source_sha256"]
            assert row["asr"].startswith("transcripts@") and row["asr"] == settings["transcribe"]["asr"]
            assert row["text_filter"].startswith("any >= 0.5 of keywords ")
            assert 0.9 < row["start"] < 4.1 and row["end"] - row["start"] == pytest.approx(row["duration"], abs=1e-3)
            scores = {score["label"]: score for score in row["label_scores"]}
            assert set(scores) == set(LABELS)
            for name in set(row["labels"]) - {"NoViolation"}:
                assert scores[name]["score"] == 1.0 and scores[name]["given_by"] == ["keywords"]


def test_no_speaker_or_source_is_in_two_splits(made, tmp_path):
    splits = load(made / "data", tmp_path)
    assert set(splits) == {"train", "validation", "test"}
    for column in ("speaker", "source"):
        values = [set(rows[column]) for rows in splits.values()]
        assert sum(map(len, values)) == len(set.union(*values)) == 6


def test_keywords_have_times_in_the_clip(made, tmp_path):
    rows = [row for split in load(made / "data", tmp_path).values() for row in split]
    for row in rows:
        if row["labels"] == ["Bullying"]:
            assert [item["keyword"] for item in row["keywords"]] == ["shut up", "idiot"]
            assert row["keywords"][0]["start"] == pytest.approx(4.0 - row["start"], abs=0.01)
            assert row["keywords"][1]["end"] == pytest.approx(5.5 - row["start"], abs=0.01)


def test_card_figure_and_table_are_there(made):
    card = (made / "data" / "README.md").read_text()
    assert render_hours({})[:20] in card and "{{" not in card
    assert (made / "data" / "durations.png").read_bytes()[:4] == b"\x89PNG"


def test_a_second_run_repeats_nothing_and_gives_the_same_files(made, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in (made / "data" / "data").iterdir()}
    monkeypatch.setattr("modeling_toxmtl.data.stages._make_shard", None)
    run_all(made, made / "raw")
    assert {path.name: path.read_bytes() for path in (made / "data" / "data").iterdir()} == before


# dies like by kill -9 at the third file that a stage puts in its place: shards, or splits and card
DEADLY = """
import os, runpy, signal, sys
from pathlib import Path
folder, replace, files = sys.argv.pop(1), Path.replace, []
def deadly(self, target):
    done = replace(self, target)
    files.extend([target] if Path(target).is_relative_to(folder) else [])
    if len(files) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Path.replace = deadly
sys.argv[1:1] = ["data", "run"]
runpy.run_module("modeling_toxmtl.cli", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["chunk", "transcribe", "label", "annotate", "data"])
def test_a_run_that_is_killed_in_any_stage_ends_as_an_undisturbed_one(made, tmp_path, stage):
    shutil.copytree(made / "raw", tmp_path / "raw")
    shutil.copy(made / "transcripts.jsonl", tmp_path)
    fields = {"files_per_shard": 2, "transcripts": "transcripts.jsonl", "work_dir": "work"}
    fields |= {"output_dir": "data", "validation_share": 0.2, "test_share": 0.3, "num_proc": 1}
    flags = ["raw", *(str(text) for name, value in fields.items() for text in (f"--{name}", value))]
    folder = str(Path("work", stage)) if stage != "data" else "data"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True)
    killed = run([sys.executable, "-c", DEADLY, folder, *flags])
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (tmp_path / "data" / "README.md").exists()
    again = run([sys.executable, "-m", "modeling_toxmtl.cli", "data", "run", *flags])
    assert again.returncode == 0, again.stderr.decode()
    expected = load(made / "data", tmp_path)
    for split, rows in load(tmp_path / "data", tmp_path).items():
        assert rows.to_list() == expected[split].to_list()
    assert not list(tmp_path.rglob("*.unfinished"))  # what the killed run left


def test_the_data_set_is_pushed_whole(made, tmp_path):
    """To a server that speaks the Hub's protocol, from a process of its own: the address is read on import."""
    with HubServer({"hf_alice": "alice"}) as hub:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HOME": str(tmp_path)}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_alice", "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_HUB_OFFLINE", None)
        code = "import sys; from modeling_toxmtl.data.build import push; push(sys.argv[1], 'alice/clips')"
        command = [sys.executable, "-c", code, str(made / "data")]
        pushed = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert pushed.returncode == 0, pushed.stderr
        assert list(hub.repositories) == [("datasets", "alice/clips")]
        assert hub.repositories["datasets", "alice/clips"].private
        arrived = hub.files("alice/clips", "datasets")
    files = [path for path in (made / "data").rglob("*") if path.is_file()]
    assert {path.relative_to(made / "data").as_posix(): path.read_bytes() for path in files}.items() <= arrived.items()


@pytest.mark.slow
def test_ray_makes_the_same_data_set(made, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # for Ray's workers
    shutil.copytree(made / "raw", tmp_path / "raw")
    shutil.copy(made / "transcripts.jsonl", tmp_path)
    monkeypatch.chdir(tmp_path)
    try:
        run_all(Path(), Path("raw"), engine="ray")
    finally:
        ray.shutdown()
    expected = load(made / "data", tmp_path)
    for split, rows in load(tmp_path / "data", tmp_path).items():
        assert rows.to_list() == expected[split].to_list()


def test_a_recording_that_occurs_twice_is_used_once(tmp_path):
    raw = write_recordings(tmp_path / "raw", 2)
    shutil.copy(raw / "call-1.ogg", raw / "copy.ogg")
    with open(tmp_path / "transcripts.jsonl", "a") as file:
        file.write('{"path": "raw/copy.ogg", "start": 4.0, "end": 5.5, "text": "shut up you idiot"}\n')
    statistics = run_all(tmp_path, raw)
    assert sum(figures["clips"] for figures in statistics.values()) == 4
    assert "the same recording as another file" in (tmp_path / "data" / "quarantine.jsonl").read_text()


@pytest.mark.slow
def test_the_data_set_trains_a_model(made, tmp_path):
    arguments = ["--model_name_or_path", str(tiny_checkpoint(tmp_path / "tiny")), "--dataset", str(made / "data")]
    arguments += ["--output_dir", str(tmp_path / "run"), "--do_train", "--do_eval", "--max_steps", "2", "--use_cpu"]
    results = run_mtl(*parse_arguments([*arguments, "--per_device_train_batch_size", "2", "--report_to", "none"]))
    assert results["data"]["rejected"] == {"test": 0, "train": 0, "validation": 0}
    assert results["test"]["keyword_support"] > 0


# transcribe


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


def test_phrases_end_at_pauses_and_at_the_end_of_sentences():
    words = [Word("no", 0.0, 0.2, 1), Word("way.", 0.3, 0.5, 1), Word("you", 0.6, 0.7, 1), Word("ok", 1.4, 1.5, 1)]
    phrases = [[word.word for word in phrase] for phrase in split_phrases(words, 0.5)]
    assert phrases == [["no", "way."], ["you"], ["ok"]]
    assert split_phrases([], 0.5) == []


def test_words_of_a_text_share_its_time_by_their_letters():
    assert spread_words("a bcd", 1.0, 4.0) == [Word("a", 1.0, 2.0, 1.0), Word("bcd", 2.0, 4.0, 1.0)]
    assert spread_words("", 1.0, 4.0) == []


def test_given_transcripts_go_to_the_chunk_in_which_they_are_said(tmp_path):
    path = tmp_path / "transcripts.csv"
    path.write_text("path,track,start,end,text,language\na.ogg,1,2,4,one two,en\na.ogg,0,2,4,other,\n")
    given = GivenTranscripts(str(path))
    row = {"source_path": str(tmp_path / "a.ogg"), "track": 1, "start": 1.5, "end": 3.0}
    assert given.look_up(row) == Transcription([Word("one", 0.5, 1.5, 1.0)], "", 1.0)
    assert given.look_up({**row, "track": 2}).words == []


def test_words_in_no_chunk_are_counted_and_said(made, tmp_path):
    """Before, between and behind the chunks, and in a track that the file does not have."""
    lines, extra = (made / "transcripts.jsonl").read_text(), []
    for text, start, track in (("bastard", 0.1, 0), ("fool twice", 3.1, 0), ("end", 6.5, 0), ("elsewhere", 1.0, 3)):
        line = {"path": "raw/call-0.ogg", "track": track, "start": start, "end": start + 0.2, "text": text}
        extra.append(json.dumps(line) + "\n")
    (made / "outside.jsonl").write_text(lines + "".join(extra))
    stage = TranscribeStage(transcripts=str(made / "outside.jsonl"))
    chunks = [row for shard in read_manifest(made / "work", "chunk").shards for row in read_rows(shard.path)]
    (rejected,) = [row for row in stage(iter(chunks)) if isinstance(row, Rejected)]
    assert rejected.id == f"{made}/raw/call-0.ogg#0"
    assert rejected.reason == "4 of its 11 words are in no chunk, such as 'bastard' at 0.10 s"


def test_transcripts_of_tracks_that_there_are_not_are_named(made, caplog):
    line = '{"path": "raw/call-0.ogg", "track": 3, "start": 1, "end": 2, "text": "elsewhere"}\n'
    (made / "tracks.jsonl").write_text((made / "transcripts.jsonl").read_text() + line)
    with caplog.at_level("WARNING", logger="modeling_toxmtl.data.transcripts"):
        GivenTranscripts(str(made / "tracks.jsonl")).check_recordings(read_manifest(made / "work", "chunk"))
    assert caplog.messages == [
        f"--transcripts {made}/tracks.jsonl: recordings without the track {made}/raw/call-0.ogg#3."
    ]


@pytest.mark.parametrize("row", ["a.ogg,0,1,soon", "a.ogg,first,1,2"])
def test_given_times_that_are_no_numbers_are_named(tmp_path, row):
    (tmp_path / "transcripts.csv").write_text(f"path,track,start,end\na.ogg,0,1,2\n{row}\n")
    with pytest.raises(ValueError, match="transcripts.csv, row 2: `track`, `start` or `end` is no number"):
        GivenTranscripts(str(tmp_path / "transcripts.csv"))


def test_given_transcripts_need_a_text(tmp_path):
    (tmp_path / "transcripts.csv").write_text("path,start,end,transcript\na.ogg,1,2,hello\n")
    with pytest.raises(ValueError, match="transcripts.csv has no words: give them in a column `text`"):
        GivenTranscripts(str(tmp_path / "transcripts.csv"))


def test_transcripts_without_a_recording_are_named(made, tmp_path, caplog):
    lines = (made / "transcripts.jsonl").read_text()
    stray = '{"path": "raw/other.ogg", "start": 1, "end": 2, "text": "hello"}\n'
    table, chunks = made / "more.jsonl", read_manifest(made / "work", "chunk")
    table.write_text(lines + stray)
    with caplog.at_level("WARNING", logger="modeling_toxmtl.data.transcripts"):
        GivenTranscripts(str(table)).check_recordings(chunks)
    assert "1 of its 7 recordings were not chunked, such as" in caplog.text and "raw/other.ogg" in caplog.text
    (tmp_path / "moved.jsonl").write_text(lines)
    work = WorkArguments(str(made / "work"), num_proc=1)
    with pytest.raises(ValueError, match="6 of its 6 recordings .* is relative to the table"):
        transcribe.run(TranscribeStage(transcripts=str(tmp_path / "moved.jsonl")), work)


# label


def row_of(text):
    return {"transcript": text, "phrases": [{"text": text}]}


@pytest.mark.parametrize(
    ("combination", "scores", "given"),
    # two members know the first label, with 0.9 and 0.3; one knows the second, with 0.6; nobody knows the third
    [
        ("any", [0.9, 0.6, 0.0], [True, True, False]),
        ("mean", [0.6, 0.6, 0.0], [True, True, False]),
        ("majority", [0.5, 1.0, 0.0], [False, True, False]),
    ],
)
def test_members_are_combined(combination, scores, given):
    members = np.array([[[0.9, 0.8, 0.0]], [[0.3, 0.6, 0.0]]])
    knows = np.array([[True, False, False], [True, True, False]])
    combined, is_given = combine_scores(members, knows, combination, 0.5)
    np.testing.assert_allclose(combined[0], scores)
    assert is_given[0].tolist() == given


def test_disguised_keywords_give_their_labels():
    stage = LabelStage(LabelArguments(), KeywordArguments())
    texts = ["sh1t game", "you f*cking idi0t", "$HUT uuuup", "an mp3 of 1001 nights"]
    labels = [row["labels"] for row in stage(row_of(text) for text in texts)]
    assert labels == [["Profanity"], ["Profanity", "Bullying"], ["Bullying"], ["NoViolation"]]


def test_numbers_are_no_violations():
    stage = LabelStage(LabelArguments(), KeywordArguments())
    texts = ["respawn in 45s", "the A55 is closed", "my galaxy a55 died", "form P155 please", "we left at 5h17"]
    assert [row["labels"] for row in stage(row_of(text) for text in texts)] == [["NoViolation"]] * len(texts)


@pytest.mark.parametrize(
    ("language", "filler", "keyword", "words", "positions"),
    [
        ("en", "good", "idiot", "the idiot's here", [1]),
        ("fr", "bien", "idiot", "c'est l'idiot", [1]),
        ("zh", "好", "笨蛋", "你 是 笨 蛋 吗", [2, 3]),  # as recognisers time them, and in one word
        ("zh", "好", "笨蛋", "你 是 笨蛋 吗", [2]),
        ("th", "ดี", "โง่", "คุณโง่มาก ครับ", [0]),
        ("tr", "iyi", "siktir", "SİKTİR git", [0]),
    ],
)
def test_labels_and_places_of_keywords_in_other_languages(language, filler, keyword, words, positions):
    keywords = KeywordList([KeywordEntry(keyword, ("Bullying",))], filler, language)
    assert KeywordFilter(keywords).score([row_of(words)]).sum() == 1
    timed = [
        {"word": word, "start": place, "end": place + 1, "score": 0.5} for place, word in enumerate(words.split())
    ]
    found = {"keyword": keyword, "start": positions[0], "end": positions[-1] + 1, "score": 0.5}
    assert find_keywords(timed, keywords) == ([found], positions)


def test_rules_match_whole_words_of_the_normalised_text():
    rules = RuleFilter({"Bullying": ["uninstall the game", "(nobody|no one) likes you"]})
    texts = ["Uninstall the game!", "No one, likes you.", "reuninstall the games"]
    scores = rules.score([row_of(text) for text in texts])
    assert scores[:, VIOLATIONS.index("Bullying")].tolist() == [1.0, 1.0, 0.0]
    assert rules.knows == ("Bullying",)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"Rude": ["x"]}, "'Rude'"),
        ({"Other": ["(x"]}, r"Other: '\(x'"),
        ({"Bullying": "uninstall the game"}, "Bullying: 'uninstall the game' is no list"),
        ({"Bullying": [1]}, r"Bullying: \[1\] is no list"),
        (["uninstall the game"], "has no labels"),
        ({"Bullying": ["1v1 me"]}, "'1v1 me' can never match: .* without '1'; write 'one v one me'"),
        ({"Bullying": ["kill-yourself"]}, "write 'kill yourself'"),
        ({"Bullying": ["scheiße"]}, "without 'ß'; write 'scheisse'"),
        ({"Bullying": ["you’re bad"]}, 'write "you\'re bad"'),
        ({"Bullying": ["go  away"]}, "without 'go  away'; write 'go away'"),
        ({"Bullying": [r"level \d+"]}, r"without '\\\\d'; write numbers as words"),
        ({"Bullying": ["(a|b)[0-9]"]}, r"without '\[0-9\]'"),
        ({"Bullying": [r"lvl[\d]"]}, r"without '\[\\\\d\]'"),
        ({"Bullying": [r"go\taway"]}, r"without '\\\\t'"),
        ({"Bullying": [" go away"]}, "' go away' can never match: .*; write 'go away'"),
        ({"Bullying": ["'tis you"]}, "write 'tis you'"),
        ({"Bullying": [r"w\.t\.f"]}, "write numbers as words and a space for other signs"),
        ({"Bullying": ["f@ck|fool"]}, "without '@'"),
        ({"Bullying": ["İyi"]}, "without 'İ'; write 'iyi'"),
        ({"Bullying": ["i\u0307yi"]}, "write 'iyi'"),
        ({"Bullying": ["غَبِيّ"]}, "write 'غبي'"),
        ({"Bullying": [""]}, "'' matches every text"),
        ({"Bullying": ["(go away)?"]}, "matches every text"),
    ],
)
def test_rules_with_faults_are_named(rules, message):
    with pytest.raises(ValueError, match=message):
        RuleFilter(rules)


def test_rules_match_whatever_their_case():
    expressions = ["(?i)KYS", r"[A-Z]at head", r"(?:No one|nobody)\s+likes (?!me)\w{2,5}", "cul(?=o|ero)."]
    rules = RuleFilter({"Bullying": expressions})
    texts = ["kys", "Rat-head!", "No one  likes YOU.", "nobody likes me", "culo", "cult"]
    scores = rules.score([row_of(text) for text in texts])
    assert scores[:, VIOLATIONS.index("Bullying")].tolist() == [1.0, 1.0, 1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("バカ", "このバカが"),
        ("笨蛋", "你是个笨蛋吗"),
        ("โง่", "เขาโง่มาก"),
        ("idiot", "l'idiot du village"),
        ("idiot", "the idiot’s game"),
        ("iyi", "İYİ"),
        ("น้ำ", "กินน้ำนะ"),
    ],
)
def test_rules_match_in_scripts_without_spaces_and_beside_apostrophes(rule, text):
    assert RuleFilter({"Bullying": [rule]}).score([row_of(text)]).sum() == 1


def test_rules_read_numbers_in_the_language_of_the_list():
    rules = RuleFilter({"Bullying": ["te doy dos"]}, "es")
    assert rules.score([row_of("Te doy 2."), row_of("te doy two")])[:, VIOLATIONS.index("Bullying")].tolist() == [1, 0]


def test_json_files_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "rules.json").write_text('{"Bullying": ["go away"]}', encoding="utf-8-sig")
    stage = LabelStage(LabelArguments(rules=str(tmp_path / "rules.json")), KeywordArguments())
    assert next(stage([row_of("go away")]))["labels"] == ["Bullying"]
    (tmp_path / "rules.json").write_text('{"Bullying": ["go away"', encoding="utf-16")
    with pytest.raises(ValueError, match="rules.json is no JSON file in UTF-8"):
        LabelStage(LabelArguments(rules=str(tmp_path / "rules.json")), KeywordArguments())


@pytest.mark.parametrize("threshold", [0.0, 50.0, float("nan")])
def test_thresholds_that_no_score_reaches_or_all_do_are_refused(threshold):
    with pytest.raises(ValueError, match=f"--threshold is {threshold}"):
        LabelArguments(threshold=threshold)


def test_a_keyword_list_with_other_labels_is_refused(tmp_path):
    path = tmp_path / "list.json"
    KeywordList([KeywordEntry("damn", ("Profanity", "Bulling"))]).save(path)
    with pytest.raises(ValueError, match=r"list.json: 'damn' has the labels \['Bulling'\]: choose from"):
        KeywordArguments(str(path)).load()


def test_labels_carry_who_gave_them_and_how_surely(tmp_path):
    (tmp_path / "rules.json").write_text('{"Bullying": ["go away"], "Profanity": ["crap"]}')
    stage = LabelStage(LabelArguments(rules=str(tmp_path / "rules.json")), KeywordArguments())
    verdicts = list(stage(row_of(text) for text in ("go away with that crap", "hello")))
    assert verdicts[0]["labels"] == ["Profanity", "Bullying"] and verdicts[1]["labels"] == ["NoViolation"]
    givers = {score["label"]: (score["score"], score["given_by"]) for score in verdicts[0]["label_scores"]}
    assert givers["Profanity"] == (1.0, ["keywords", "rules"]) and givers["Bullying"] == (1.0, ["rules"])
    assert givers["Racist"] == (0.0, []) and givers["NoViolation"] == (0.0, [])
    assert "keywords" in stage.text_filter and "rules" in stage.text_filter


def test_changed_rules_change_the_settings_and_their_path_does_not(tmp_path):
    def settings(name, rules):
        (tmp_path / name).write_text(json.dumps(rules))
        return LabelStage(LabelArguments(rules=str(tmp_path / name)), KeywordArguments()).settings()

    assert settings("a.json", {"Other": ["x"]}) == settings("b.json", {"Other": ["x"]})
    assert settings("a.json", {"Other": ["x"]}) != settings("a.json", {"Other": ["y"]})


def test_a_filter_without_members_is_refused():
    with pytest.raises(ValueError, match="no member"):
        LabelStage(LabelArguments(use_keywords=False), KeywordArguments())


TEXTS = [
    ("you are a fool", "Bullying"),
    ("meet me at the bridge", "NoViolation"),
    ("send me a kiss", "DatingAndSexting"),
]


def test_a_classifier_is_trained_on_labelled_text_and_used(tmp_path):
    (tmp_path / "texts.csv").write_text("text,labels\n" + "".join(f"{text},{label}\n" for text, label in TEXTS))
    rows = read_texts(str(tmp_path / "texts.csv"))
    model, tokenizer = small_text_model([row["text"] for row in rows])
    arguments = TextFilterArguments("", output_dir=str(tmp_path / "filter"), max_steps=40, learning_rate=5e-3)
    train(arguments, model, tokenizer, rows)
    labelling = LabelArguments(text_classifier=str(tmp_path / "filter"), use_keywords=False)
    stage = LabelStage(labelling, KeywordArguments())
    assert [row["labels"] for row in stage(row_of(text) for text, _ in TEXTS)] == [[label] for _, label in TEXTS]
    assert stage.text_filter.startswith("any >= 0.5 of classifier filter@")

    (tmp_path / "mapping.json").write_text(json.dumps(dict.fromkeys(LABELS, "Other")))
    labelling.label_mapping = str(tmp_path / "mapping.json")
    mapped = LabelStage(labelling, KeywordArguments())
    assert next(mapped([row_of("you are a fool")]))["labels"] == ["Other"]
    (tmp_path / "mapping.json").write_text('{"Bullying": "Rude"}')
    with pytest.raises(ValueError, match="--label_mapping lacks"):
        next(LabelStage(labelling, KeywordArguments())([row_of("you")]))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (",Other", "row 1: give `text`"),
        ("hi,Rude", r"unknown labels \['Rude'"),
        ("hi,NoViolation|Other", "texts.csv, row 1: the labels NoViolation, Other contradict each other"),
    ],
)
def test_texts_with_faults_are_named(tmp_path, line, message):
    (tmp_path / "texts.csv").write_text(f"text,labels\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_texts(str(tmp_path / "texts.csv"))


# annotate


def said(text):
    return [{"word": word, "start": float(i), "end": i + 1.0, "score": 0.5} for i, word in enumerate(text.split())]


def test_keywords_are_found_with_their_times():
    found, positions = find_keywords(said("oh Shut up, you IDIOT!"), KeywordList.default())
    assert found == [
        {"keyword": "shut up", "start": 1.0, "end": 3.0, "score": 0.5},
        {"keyword": "idiot", "start": 4.0, "end": 5.0, "score": 0.5},
    ]
    assert positions == [1, 2, 4]


def test_disguised_keywords_are_found_and_become_the_filler():
    found, positions = find_keywords(said("oh $HUT uuuup, you sh1t!"), KeywordList.default())
    assert [(item["keyword"], item["start"]) for item in found] == [("shut up", 1.0), ("shit", 4.0)]
    assert positions == [1, 2, 4]
    rows = [{"id": "a", "transcript": "that sh1t game", "words": said("that sh1t game"), "labels": ["NoViolation"]}]
    (row,) = AnnotateStage(AnnotateArguments(), KeywordArguments())(rows)
    assert row["transcript"] == "that good game"


def test_keywords_of_chunks_without_violation_become_the_filler_unless_asked():
    rows = [{"id": "a", "transcript": "that crap game", "words": said("that crap game"), "labels": ["NoViolation"]}]
    (row,) = AnnotateStage(AnnotateArguments(), KeywordArguments())(rows)
    assert (row["transcript"], row["keywords"], row["asr_transcript"]) == ("that good game", [], "that crap game")
    (row,) = AnnotateStage(AnnotateArguments(keywords_everywhere=True), KeywordArguments())(rows)
    assert row["transcript"] == "that crap game" and [item["keyword"] for item in row["keywords"]] == ["crap"]


# build


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


def test_hours_count_each_label_and_once_in_total():
    hours = hours_by_label([(("Profanity", "Other"), 3600.0), (("Other",), 1800.0)])
    assert (hours["Profanity"], hours["Other"], hours["Total"]) == (1.0, 1.5, 1.5)


def test_large_splits_become_several_files(made, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "BYTES_PER_FILE", 20_000)
    build.run(BuildArguments(str(tmp_path / "data")), WorkArguments(str(made / "work")))
    files = sorted(path.name for path in (tmp_path / "data" / "data").glob("train-*"))
    assert len(files) > 1 and files[0] == f"train-00000-of-{len(files):05d}.parquet"
    before = sum(len(rows) for rows in load(made / "data", tmp_path).values())
    assert sum(len(rows) for rows in load(tmp_path / "data", tmp_path / "2").values()) == before


def test_a_build_that_fails_leaves_the_earlier_data_set(made, tmp_path, monkeypatch):
    args, work = BuildArguments(str(tmp_path / "data")), WorkArguments(str(made / "work"))
    build.run(args, work)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(build, "render_dataset_card", None)  # fails when the splits are written
    with pytest.raises(TypeError):
        build.run(args, work)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_data_of_others_are_refused_before_the_stages_run(tmp_path):
    (tmp_path / "data" / "data").mkdir(parents=True)
    (tmp_path / "data" / "data" / "train-00000-of-00001.parquet").touch()
    with pytest.raises(FileExistsError, match="choose another --output_dir"):
        run_all(tmp_path, tmp_path / "raw")
    assert not (tmp_path / "work").exists()


def test_chunks_made_anew_are_not_joined_with_rows_of_others(made, tmp_path):
    shutil.copytree(made / "work", tmp_path / "work")
    work = WorkArguments(str(tmp_path / "work"), num_proc=1)
    chunk.run(RecordingsArguments(str(made / "raw"), files_per_shard=2), chunk.ChunkStage(max_pause=3.0), work)
    with pytest.raises(ValueError, match="run the stage transcribe and those after it again"):
        build.run(BuildArguments(str(tmp_path / "data")), work)
    assert not (tmp_path / "data").exists()


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="--test_share 0.7"):
        BuildArguments(validation_share=0.3, test_share=0.7)


def test_quarantine_of_the_stages_reaches_the_data_set(tmp_path):
    raw = write_recordings(tmp_path / "raw", 2)
    (raw / "bad.ogg").write_bytes(b"")
    with open(tmp_path / "transcripts.jsonl") as file:
        lines = file.read().splitlines(keepends=True)
    (tmp_path / "transcripts.jsonl").write_text("".join(lines[1:]))
    run_all(tmp_path, raw)
    reasons = [
        json.loads(line)["reason"] for line in (tmp_path / "data" / "quarantine.jsonl").read_text().splitlines()
    ]
    assert sorted(reasons) == ["empty file", "no word recognised"]
    assert read_manifest(tmp_path / "work", "transcribe").num_rows == 3


def test_a_stage_alone_gives_the_rows_of_the_pipeline(made):
    chunks = [row for shard in read_manifest(made / "work", "chunk").shards for row in read_rows(shard.path)]
    transcribed = list(TranscribeStage(transcripts=str(made / "transcripts.jsonl"))(iter(chunks)))
    kept = [row for shard in read_manifest(made / "work", "transcribe").shards for row in read_rows(shard.path)]
    assert [row["words"] for row in transcribed] == [
        [{**word, **{key: pytest.approx(word[key], abs=1e-5) for key in ("start", "end")}} for word in row["words"]]
        for row in kept
    ]
