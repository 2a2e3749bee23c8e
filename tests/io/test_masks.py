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
        ("お前は（ピー）だ", "（ピー）"),
        ("what a [beeeep]", "[beeeep]"),
        ("f…k you", "f…k"),
        ("oh f..k", "f..k"),
        ("f‐‐k", "f‐‐k"),
        ("oh sh—t", "sh—t"),
        ("a b-tch", "b-tch"),
        ("f#ck and f_ck", "f#ck"),
        ("you f@#k", "f@#k"),
        ("what the fu...k", "fu...k"),
        ("you f...ing idiot", "f...ing"),
        ("f★☆k", "f★☆k"),
        ("иди на х…й", "х…й"),
        ("с...ка", "с...ка"),
        ("γ…ς", "γ…ς"),
        ("你个傻×", "×"),
        ("バ○だ", "○"),
        ("〇ね", "〇"),
        ("○ね", "○"),
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
        "w...what? n...no, th...the, s--so",
        "mm-hmm, hm...ok, tsk-tsk, no...mm, Mr...Smith, vs...them, k...fine",
        "well…okay, he said...go, a...b, à…moi",
        "the n-th x-ray, a t-shirt, R&B, c#, user_name, __really__",
        "в...вот, я-- я думаю",
        "二〇二四年 第三〇回 鬼滅×コラボ 3×4",
        "○議長 ●これは",
    ],
)
def test_words_that_are_written_hide_nothing(text):
    assert find_mask(text, KEYWORDS) is None


@pytest.mark.parametrize(
    "text",
    [
        "you bleeping idiot",
        "holy bleep",
        "bleep you",
        "a piece of bleep",
        "shut the bleep up",
        "you stupid bleep",
        "bleep bleep bleep",
        "this is BLEEP man",
    ],
)
def test_a_bleep_where_one_curses_is_a_hidden_word(text):
    assert "bleep" in find_mask(text, KEYWORDS).lower()


@pytest.mark.parametrize(
    "text",
    [
        "bleep",
        "they bleep out the names, and it keeps bleeping",
        "the bleeping sound of the bleep test",
        "you bleep it out, and stop bleeping at me",
        "I HEARD A BLEEP",
    ],
)
def test_a_bleep_may_be_a_word(text):
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
