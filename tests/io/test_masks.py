import pytest

from modeling_toxmtl.data.label import KeywordArguments, LabelArguments, LabelStage
from modeling_toxmtl.data.shards import Rejected
from modeling_toxmtl.io.masks import find_mask
from modeling_toxmtl.keywords import KeywordList


KEYWORDS = KeywordList.default()


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("you **** idiot", "****"),
        ("you [ __ ] idiot", "[ __ ]"),
        ("you [\u00a0__\u00a0] idiot", "[\u00a0__\u00a0]"),
        ("you s*** head", "s***"),
        ("you w**zl*ng", "w**zl*ng"),
        ("what the [bleep]!", "[bleep]"),
        ("what the *beep*", "*beep*"),
        ("what the bleep are you doing", "bleep"),
        ("[expletive deleted] you", "[expletive deleted]"),
        ("you <Censored>", "<Censored>"),
        ("you [racial slur]", "[racial slur]"),
        ("go (inaudible) away", "(inaudible)"),
        ("f--- you", "f---"),
        ("f__k you", "f__k"),
        ("you ####!", "####!"),
        ("you ██████", "██████"),
        ("you #$%&!", "#$%&!"),
        ("you ＊＊＊＊", "****"),
        (r"you \*\*\*\* idiot", "****"),
        ("you &#42;&#42;&#42;&#42;", "****"),
        ("you ××××", "××××"),
        ("you 🤬 idiot", "🤬"),
        ("you <unk> idiot", "<unk>"),
        ("[curse word] you", "[curse word]"),
        ("eres un [pitido]", "[pitido]"),
        ("eres un (piiip)", "(piiip)"),
        ("[palabra censurada]", "[palabra censurada]"),
        ("du [piep] idiot", "[piep]"),
        ("[unverständlich] idiot", "[unverständlich]"),
        ("sale [bip]", "[bip]"),
        ("[inintelligible]", "[inintelligible]"),
        ("иди ты [нрзб]", "[нрзб]"),
    ],
)
def test_hidden_words_are_found(text, mask):
    assert find_mask(text, KEYWORDS) == mask


@pytest.mark.parametrize(
    "text",
    [
        "hello my friend",
        "you f*cking idi0t",  # disguised keywords are known
        "this is *really* good, **really**",
        "2 * 3 is 6",
        "I-- I mean a-- well",
        "well-known ex-player -- no",
        "mute your microphone [laughs] (music) [slurring]",
        "the car beeped",
        "rock & roll, 50% off, #1, $$",
        "a rose, a cursor",
        "three × four &amp; five",
        "[laughs unkindly] (pipe music) [cursor]",
    ],
)
def test_words_that_are_written_hide_nothing(text):
    assert find_mask(text, KEYWORDS) is None


def test_a_transcript_with_a_hidden_word_is_not_labelled():
    """Neither as harmless, nor with what it says besides: the hidden word may be of another kind."""
    stage = LabelStage(LabelArguments(), KeywordArguments())
    texts = {"a": "nice game", "b": "you are a ****", "c": "shut up you [ __ ]"}
    rows = [{"id": id, "transcript": text, "phrases": [{"text": text}]} for id, text in texts.items()]
    *rejected, labelled = stage(iter(rows))
    assert labelled["labels"] == ["NoViolation"]
    assert rejected == [
        Rejected("b", "the transcript hides a word: '****'"),
        Rejected("c", "the transcript hides a word: '[ __ ]'"),
    ]
