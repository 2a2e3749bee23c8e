import pytest

from modeling_toxmtl.alphabet import CHARACTERS, alphabet_tokenizer, character_tokenizer
from modeling_toxmtl.text import normalize_text


def test_vocabulary_is_that_of_english_checkpoints():
    vocabulary = character_tokenizer().get_vocab()
    assert len(vocabulary) == 32
    assert [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1])] == list(CHARACTERS)
    assert character_tokenizer().pad_token_id == 0
    assert character_tokenizer().word_delimiter_token_id == 4


def test_alphabet():
    tokenizer = alphabet_tokenizer("aábñ")
    assert tokenizer.convert_ids_to_tokens(range(9)) == ["<pad>", "<s>", "</s>", "<unk>", "|", "a", "á", "b", "ñ"]
    assert tokenizer("bañá").input_ids == [7, 5, 8, 6]


def test_letters_that_normalised_words_hold_are_an_alphabet():
    letters = "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώϊϋΐΰς"
    words = normalize_text("ΜΑΛΆΚΑΣ, ταΐζω, πραΰς", "el")
    assert set("".join(words)) <= set(letters)
    assert alphabet_tokenizer(letters).convert_tokens_to_ids(list(letters)) == list(range(5, 5 + len(letters)))


@pytest.mark.parametrize(
    ("letters", "message"),
    [("abca", "'a' more than once"), ("aB", "lower case"), ("a b", "spaces"), ("aß", "has 'ß', which no")],
)
def test_alphabet_that_is_none(letters, message):
    with pytest.raises(ValueError, match=message):
        alphabet_tokenizer(letters)
