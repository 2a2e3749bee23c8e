import json

import numpy as np
import pytest
from pipeline_runs import row_of

from modeling_toxmtl.data.annotate import find_keywords
from modeling_toxmtl.data.label import KeywordArguments, KeywordFilter, LabelArguments, LabelStage, combine_scores
from modeling_toxmtl.data.shards import Rejected
from modeling_toxmtl.keywords import KeywordEntry, KeywordList


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


def test_keywords_are_said_in_one_phrase():
    """As stage 2 divides the transcript, at the end of sentences and at pauses."""
    stage = LabelStage(LabelArguments(), KeywordArguments())
    for phrases in (["They let him off the hook.", "Up next is the boss."], ["hold the screw", "you turn it"]):
        row = {"transcript": " ".join(phrases), "phrases": [{"text": text} for text in phrases]}
        assert next(stage([row]))["labels"] == ["NoViolation"]
        assert next(stage([row_of(row["transcript"])]))["labels"] != ["NoViolation"]  # as one phrase


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


def test_a_changed_keyword_list_changes_the_settings_even_if_it_gives_no_labels(tmp_path):
    """With another list, "f*ck" is no keyword in disguise but a hidden word."""
    (tmp_path / "rules.json").write_text('{"Bullying": ["go away"]}')
    KeywordList([KeywordEntry("damn", ("Profanity",))]).save(tmp_path / "list.json")
    args = LabelArguments(rules=str(tmp_path / "rules.json"), use_keywords=False)
    packaged, other = (LabelStage(args, KeywordArguments(path)) for path in (None, str(tmp_path / "list.json")))
    row = row_of("what the f*ck") | {"id": "a"}
    assert isinstance(next(packaged([row])), dict) and isinstance(next(other([row])), Rejected)
    assert packaged.settings() != other.settings()


def test_a_filter_without_members_is_refused():
    with pytest.raises(ValueError, match="no member"):
        LabelStage(LabelArguments(use_keywords=False), KeywordArguments())
