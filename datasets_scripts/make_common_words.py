"""Lists the commonest words of a language, which compete with the keywords of a head that writes all words.

    python -m datasets_scripts.make_common_words --output runs/common_words.txt
    python run_mtl.py … --keyword_target transcript --common_words runs/common_words.txt

The ranking is wordfreq's (Speer 2022), whose data are under CC BY-SA 4.0: name it where you publish the list.
"""

from dataclasses import dataclass, field

from transformers import HfArgumentParser
from wordfreq import iter_wordlist

from modeling_toxmtl.io.files import write_text
from modeling_toxmtl.text import normalize_text


@dataclass
class CommonWordsArguments:
    """Which words, and where to."""

    output: str = field(metadata={"help": "Text file to write, one word a line, the commonest first."})
    language: str = field(default="en", metadata={"help": "Language code, of wordfreq's languages."})
    words: int = field(default=20_000, metadata={"help": "How many."})


def common_words(language: str, count: int) -> list[str]:
    """The words that a transcript can hold as they are: numbers, and what is written with other signs, are left out.

    Raises:
        LookupError: wordfreq does not know the language.
    """
    words = []
    for word in iter_wordlist(language):
        if len(words) == count:
            break
        if not any(map(str.isdecimal, word)) and normalize_text(word, language) == [word]:
            words.append(word)
    return words


def main(args: CommonWordsArguments) -> None:
    """Writes the list."""
    write_text(args.output, "\n".join(common_words(args.language, args.words)) + "\n")


if __name__ == "__main__":
    main(*HfArgumentParser(CommonWordsArguments, description=__doc__).parse_args_into_dataclasses())
