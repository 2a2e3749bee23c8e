from datasets_scripts.make_common_words import CommonWordsArguments, common_words, main
from modeling_toxmtl.language_model import load_common_words
from modeling_toxmtl.text import normalize_text


def test_english(tmp_path):
    main(CommonWordsArguments(str(tmp_path / "words.txt"), words=2000))
    words = load_common_words(str(tmp_path / "words.txt"), 0)  # which refuses what is no word
    assert len(words) == len(set(words)) == 2000
    assert words[0] == "the" and {"don't", "game"} <= set(words)
    assert all(normalize_text(word) == [word] for word in words)
    assert words.index("you") < words.index("game")


def test_spanish_words_keep_their_accents():
    assert {"qué", "año", "más"} <= set(common_words("es", 500))
