from pathlib import Path

import pytest

from modeling_toxmtl import keywords
from modeling_toxmtl.keywords import FILLER_WORD, KeywordEntry, KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION


# --- looking up and editing


def test_lookup(small):
    assert len(small) == 5
    assert small.keywords == ["damn", "shit", "shut up", "shut", "goddamn"] == [entry.keyword for entry in small]
    assert small.words == {"good", "damn", "shit", "shut", "up", "goddamn"}
    assert "shut up" in small and "dammit" not in small and "up" not in small
    assert small.labels_of("goddamn") == ("Profanity", "Bullying")
    with pytest.raises(KeyError, match="dammit"):
        small.labels_of("dammit")


def test_editing_acts_at_once(small):
    assert small.substitute("you muppet, quit it") == "good good good good"
    small.add("muppet", ["Bullying"], ["muppets"])
    small.add("quit it", ("Other",))
    assert small.substitute("you muppets, quit it") == "good muppet quit it"
    assert small.labels_of("muppet") == ("Bullying",) and {"muppet", "quit", "it"} <= small.words
    small.alias("muppet", "puppet")
    assert small.substitute("puppet m*ppet") == "muppet muppet"
    small.remove("muppet")
    assert small.substitute("muppet puppet muppets") == "good good good"
    assert "muppet" not in small and small.keywords[-1] == "quit it"
    small.add("puppet", ["Other"])
    assert small.substitute("puppet") == "puppet"


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda k: k.add("damn", ["Other"]), ValueError, "'damn' already is a spelling of 'damn'"),
        (lambda k: k.add("dammit", ["Other"]), ValueError, "'dammit' already is a spelling of 'damn'"),
        (lambda k: k.add("new", ["Other"], ["shits"]), ValueError, "'shits' already is a spelling of 'shit'"),
        (lambda k: k.add("new", ["Other"], ["new"]), ValueError, "'new' already is a spelling of 'new'"),
        (lambda k: k.add("new", []), ValueError, "`labels` is empty"),
        (lambda k: k.add("new", "Other"), ValueError, "`labels` must be a list"),
        (lambda k: k.add("good grief", ["Other"]), ValueError, "contains the filler 'good'"),
        (lambda k: k.alias("shit", "damned"), ValueError, "'damned' already is a spelling of 'damn'"),
        (lambda k: k.alias("damn", "Darn"), ValueError, "write 'darn'"),
        (lambda k: k.alias("dammit", "darn"), KeyError, "dammit"),
        (lambda k: k.remove("dammit"), KeyError, "dammit"),
    ],
)
def test_a_refused_edit_changes_nothing(small, edit, error, message):
    before = small.to_dict()
    with pytest.raises(error, match=message):
        edit(small)
    assert small.to_dict() == before
    assert small.substitute("dammit new good darn shits") == "damn good good good shit"


def test_the_last_keyword_stays():
    single = KeywordList([KeywordEntry("damn", ("Profanity",))])
    with pytest.raises(ValueError, match="empty"):
        single.remove("damn")
    assert single.keywords == ["damn"]


# --- the default list


def test_default_list_has_the_81_keywords_of_the_protocol(default):
    assert (len(default), default.filler, default.language) == (81, FILLER_WORD, "en")
    counts = {label: sum(label in entry.labels for entry in default) for label in LABELS}
    assert counts[NO_VIOLATION] == 0
    assert all(counts[label] >= 8 for label in LABELS if label != NO_VIOLATION), counts
    assert {label for entry in default for label in entry.labels} <= set(LABELS)
    assert any(len(entry.labels) == 2 for entry in default)
    assert any(" " in entry.keyword for entry in default)


def test_default_list_uses_the_ctc_alphabet_only(default):
    spellings = [spelling for entry in default for spelling in (entry.keyword, *entry.variants)]
    assert set("".join(spellings)) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert set("".join(default.words)) <= set("abcdefghijklmnopqrstuvwxyz")


def test_default_file_is_as_save_writes_it(default, tmp_path):
    default.save(tmp_path / "en.json")
    packaged = Path(keywords.__file__).parent / "keyword_lists" / "en.json"
    assert packaged.read_bytes() == (tmp_path / "en.json").read_bytes()


def test_thresholds():
    keywords = KeywordList(
        [KeywordEntry("damn", ("Profanity",), threshold=0.25), KeywordEntry("crap", ("Profanity",))]
    )
    assert (keywords.threshold_of("damn"), keywords.threshold_of("crap")) == (0.25, 0.0)
    keywords.set_threshold("crap", 1)
    assert [entry.get("threshold") for entry in keywords.to_dict()["keywords"]] == [0.25, 1.0]
    assert KeywordList.from_dict(keywords.to_dict()).threshold_of("crap") == 1.0
    keywords.set_threshold("damn", 0.0)
    assert "threshold" not in keywords.to_dict()["keywords"][0]
    for wrong, message in ((1.5, "0 to 1"), (-0.1, "0 to 1"), ("high", "number"), (True, "number"), (None, "number")):
        with pytest.raises(ValueError, match=f"entry 1.*`threshold`.*{message}"):
            keywords.set_threshold("damn", wrong)
    with pytest.raises(KeyError, match="dammit"):
        keywords.set_threshold("dammit", 0.5)
    assert keywords.threshold_of("damn") == 0.0  # a refused edit changes nothing


def test_spellings(small):
    assert small.spellings == {
        "damn": "damn",
        "dammit": "damn",
        "damned": "damn",
        "shit": "shit",
        "shits": "shit",
        "shut up": "shut up",
        "shutting up": "shut up",
        "shut": "shut",
        "goddamn": "goddamn",
        "god damn": "goddamn",
    }


def test_decodable_words():
    keywords = KeywordList(
        [
            KeywordEntry("goddamn", ("Profanity",), ("goddammit", "god damn")),
            KeywordEntry("shut up", ("Bullying",), ("shutup", "shutting up")),
            KeywordEntry("hush", ("Bullying",), ("shut",)),
        ]
    )
    assert keywords.decodable == {
        "good": "good",
        "goddamn": "goddamn",
        "goddammit": "goddamn",
        "shut": "shut",  # a word of a phrase stays itself; `find` reads it
        "up": "up",
        "shutup": "shutup",
        "hush": "hush",
    }
