"""The keyword list, and the targets of the keyword task that it makes of transcripts (paper, section 3.2).

A keyword list is one JSON file, editable by hand:

    {"filler": "good", "language": "en", "keywords": [
        {"keyword": "damn", "labels": ["Profanity"], "variants": ["dammit", "damned"]},
        {"keyword": "shut up", "labels": ["Bullying"]}]}

`keyword` is the word or phrase the model learns to write, `labels` the classes it points to, `variants` (may be left
out) the inflections and other spellings that it replaces, `threshold` (may be left out) the score below which it is
not reported. A *spelling* is a keyword or a variant, written as `normalize_text` writes it; numbers are read out in
`language`.

Design choices:
- A target has one word for each word said, all but the keywords being the filler, so that keywords can be placed in
  time. Only a variant with another number of words changes the count ("god damn" -> "goddamn").
- Matching compares whole words: a word that merely contains a keyword is never a match. What an apostrophe joins to a
  word is no part of it ("idiot's", "l'idiot"). Scripts without spaces do not tell where words end: there each
  character is a word, a keyword matches wherever its characters stand, and is one word in the target.
- Disguised spellings ("sh1t", "f**k") are undone in matching; one that fits two keywords matches neither.
- An edit checks the whole list and then replaces it: it acts at once, and one that is refused changes nothing.
- The indices are dictionaries made from the entries, and nothing is cached: a list pickles to the same bytes in every
  process, which keeps the fingerprints of `datasets` stable.
"""

import itertools
import json
import operator
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from .text import (
    disguise_pattern,
    normalize_text,
    plain_words,
    split_tokens,
    split_unspaced,
    without_clitics,
)


FILLER_WORD = "good"


@dataclass(frozen=True)
class KeywordEntry:
    """One keyword: its canonical spelling, the labels it points to, the spellings that are replaced by it, and the
    score, in [0, 1], that it must reach to be reported."""

    keyword: str
    labels: tuple[str, ...]
    variants: tuple[str, ...] = ()
    threshold: float = 0.0


@dataclass(frozen=True)
class KeywordMatch:
    """A keyword found in a sequence of words, at `words[start:end]`."""

    keyword: str
    start: int
    end: int


class _Spelling(NamedTuple):
    """The tokens that spell a keyword, and the words to write for them: the same but in scripts without spaces."""

    tokens: tuple[str, ...]
    words: tuple[str, ...]
    keyword: str


class KeywordList:
    """Keywords with their labels and variants; see the module's docstring for the file format.

    Args:
        entries: at least one. No spelling may belong to two entries or contain the filler.
        filler: the word that stands for every word outside the list.
        language: code such as "en": the language in which numbers are read out.

    Raises:
        ValueError: an entry is not valid; the message names it and the cure.
    """

    def __init__(self, entries: Iterable[KeywordEntry], filler: str = FILLER_WORD, language: str = "en"):
        if not isinstance(language, str) or not language.strip():
            raise ValueError(f"`language` is {language!r}: give a language code, such as 'en'")
        _check_characters(language, "`language`")
        if not isinstance(filler, str) or normalize_text(filler, language) != [filler]:
            raise ValueError(f"`filler` is {filler!r}: give one lower-case word, such as {FILLER_WORD!r}")
        self.filler = filler
        self.language = language
        self._set_entries(entries)

    @classmethod
    def default(cls) -> "KeywordList":
        """The 81 English keywords that come with the installed package; a model folder has a list of its own."""
        return cls.from_file(Path(__file__).parent / "keyword_lists" / "en.json")

    @classmethod
    def from_file(cls, path: str | PathLike) -> "KeywordList":
        """Reads a JSON file. Errors of `from_dict`, and of JSON syntax, are ValueErrors that begin with the path."""
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
            return cls.from_dict(json.loads(text, object_pairs_hook=unique_keys))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, data: dict) -> "KeywordList":
        """The inverse of `to_dict`. Raises ValueError for missing or unknown fields, and as the constructor does."""
        _check_fields(data, "the list", required={"filler", "language", "keywords"})
        if not isinstance(data["keywords"], list):
            raise ValueError("`keywords` must be a list of objects, each with a `keyword` and its `labels`")
        for number, entry in enumerate(data["keywords"], start=1):
            _check_fields(entry, f"entry {number}", required={"keyword", "labels"}, optional={"variants", "threshold"})
        return cls([KeywordEntry(**entry) for entry in data["keywords"]], data["filler"], data["language"])

    def to_dict(self) -> dict:
        """The list as plain JSON types; thresholds of 0 are left out."""
        keywords = [
            {"keyword": e.keyword, "labels": list(e.labels), "variants": list(e.variants)}
            | ({"threshold": e.threshold} if e.threshold else {})
            for e in self
        ]
        return {"filler": self.filler, "language": self.language, "keywords": keywords}

    def save(self, path: str | PathLike) -> None:
        """Writes the JSON file, one entry per line."""
        data = self.to_dict()
        entries = ",\n".join("    " + json.dumps(entry, ensure_ascii=False) for entry in data.pop("keywords"))
        head = json.dumps(data, ensure_ascii=False, indent=2).removesuffix("\n}")
        Path(path).write_text(f'{head},\n  "keywords": [\n{entries}\n  ]\n}}\n', encoding="utf-8")

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[KeywordEntry]:
        return iter(self._entries.values())

    def __contains__(self, keyword: str) -> bool:
        """Whether `keyword` is a canonical keyword; variants are not."""
        return keyword in self._entries

    @property
    def keywords(self) -> list[str]:
        """The canonical keywords, in the order of the list."""
        return list(self._entries)

    @property
    def words(self) -> frozenset[str]:
        """Every word that a substituted transcript can contain: the filler and the words of the canonical keywords."""
        return frozenset(self._words)

    @property
    def decodable(self) -> dict[str, str]:
        """Every word that a keyword head may write, and the word to read it as.

        These are `words`, and the variants of one word, read as their keyword if that is one word too. A head writes
        variants only where it has not learnt not to. Variants of several words are left out: their parts ("god" of
        "god damn") resemble the filler and would only be taken for it.
        """
        return dict(self._decodable)

    @property
    def spellings(self) -> dict[str, str]:
        """Every spelling, phrases with spaces, and its keyword."""
        return {spelling: entry.keyword for entry in self for spelling in (entry.keyword, *entry.variants)}

    def threshold_of(self, keyword: str) -> float:
        """The score that a canonical keyword must reach. Raises KeyError for any other word."""
        return self._entry(keyword).threshold

    def labels_of(self, keyword: str) -> tuple[str, ...]:
        """The labels of a canonical keyword. Raises KeyError for any other word."""
        return self._entry(keyword).labels

    def add(self, keyword: str, labels: Sequence[str], variants: Sequence[str] = (), threshold: float = 0.0) -> None:
        """Appends an entry. Raises ValueError as the constructor does."""
        self._set_entries([*self, KeywordEntry(keyword, labels, variants, threshold)])

    def remove(self, keyword: str) -> None:
        """Removes an entry. Raises KeyError if there is none, ValueError if it is the last."""
        removed = self._entry(keyword)
        self._set_entries([entry for entry in self if entry is not removed])

    def alias(self, keyword: str, variant: str) -> None:
        """Adds a variant to a canonical keyword. Raises KeyError if there is no such keyword, ValueError as `add`."""
        old = self._entry(keyword)
        new = replace(old, variants=(*old.variants, variant))
        self._set_entries([new if entry is old else entry for entry in self])

    def set_threshold(self, keyword: str, threshold: float) -> None:
        """Sets the score in [0, 1] that a canonical keyword must reach. Raises KeyError, ValueError as `alias`."""
        old = self._entry(keyword)
        self._set_entries([replace(entry, threshold=threshold) if entry is old else entry for entry in self])

    def substitute(self, transcript: str) -> str:
        """The target of the keyword task: spellings become their keyword, every other word the filler (section 3.2).

        Substituting a target changes nothing, unless two keywords side by side happen to spell a third.
        """
        tokens = self.tokens(transcript)
        words, position = [], 0
        for match in self.find(tokens):
            words += [self.filler] * (match.start - position) + match.keyword.split()
            position = match.end
        return " ".join(words + [self.filler] * (len(tokens) - position))

    def tokens(self, text: str) -> list[str]:
        """The words of `text` as `normalize_text` gives them, and scripts without spaces by characters; disguised
        spellings stay as they are."""
        tokens = []
        for token in split_tokens(text, self.language):
            tokens += [token] if self._readings(token) else self._plain_words(token)
        return tokens

    def undisguise(self, transcript: str) -> list[str]:
        """The words of a transcript, disguised spellings written out ("sh1t" as shit), and what an apostrophe joins to
        a spelling left out; no word is replaced."""
        tokens = self.tokens(transcript)
        words, position = [], 0
        for match, spelling in self._matches(tokens):
            words += [*tokens[position : match.start], *spelling]
            position = match.end
        # what is disguised and fits no keyword, or several
        return [word for token in [*words, *tokens[position:]] for word in plain_words(token, self.language)]

    def find(self, words: Sequence[str]) -> list[KeywordMatch]:
        """The keywords in a sequence of words, such as `tokens`, without overlaps: leftmost first, then longest. A
        phrase may be one item already, as [`merge`] gives it."""
        return [match for match, _ in self._matches(words)]

    def merge(self, words: Sequence[str]) -> list[str]:
        """The words with each keyword, phrases too, as one item in its canonical spelling."""
        merged, end = [], 0
        for match in self.find(words):
            merged += [*words[end : match.start], match.keyword]
            end = match.end
        return [*merged, *words[end:]]

    def _matches(self, words: Sequence[str]) -> Iterator[tuple[KeywordMatch, tuple[str, ...]]]:
        """The keywords in a sequence of words, each with the spelling that it has there."""
        readings = [self._readings(word) for word in words]
        start = 0
        while start < len(readings):
            if " " in words[start] and words[start] in self._entries:
                found = KeywordMatch(words[start], start, start + 1), tuple(words[start].split())
            else:
                found = self._match_at(readings, start)
            if found:
                yield found
            start = found[0].end if found else start + 1

    def _match_at(self, readings: list[tuple[str, ...]], start: int) -> tuple[KeywordMatch, tuple[str, ...]] | None:
        found: dict[int, dict[str, tuple[str, ...]]] = {}  # number of tokens -> keyword -> words to write
        for spelling in itertools.chain.from_iterable(self._starting_with.get(word, ()) for word in readings[start]):
            length = len(spelling.tokens)
            span = readings[start : start + length]
            if len(span) == length and all(map(operator.contains, span, spelling.tokens)):
                found.setdefault(length, {}).setdefault(spelling.keyword, spelling.words)
        for length in sorted(found, reverse=True):
            if len(found[length]) == 1:
                ((keyword, words),) = found[length].items()
                return KeywordMatch(keyword, start, start + length), words
        return None

    def _readings(self, token: str) -> tuple[str, ...]:
        """The words of the list's spellings that `token` can stand for: itself, or what it may disguise."""
        forms = list(dict.fromkeys((token, without_clitics(token, self.language))))
        for form in forms:
            if form in self._vocabulary:
                return (form,)
        patterns = filter(None, map(disguise_pattern, forms))
        return next(filter(None, (tuple(filter(pattern.fullmatch, self._vocabulary)) for pattern in patterns)), ())

    def _plain_words(self, token):
        return [part for word in plain_words(token, self.language) for part in split_unspaced(word)]

    def _entry(self, keyword: str) -> KeywordEntry:
        if keyword not in self._entries:
            raise KeyError(f"{keyword!r} is not a keyword of this list (a variant is none: name its keyword)")
        return self._entries[keyword]

    def _set_entries(self, entries: Iterable[KeywordEntry]) -> None:
        """Checks the entries, then replaces the list and its indices."""
        checked, owners = {}, {}
        for number, entry in enumerate(entries, start=1):
            where = f"entry {number} ({entry.keyword!r})"
            entry = _checked_entry(entry, self.filler, self.language, where)
            for spelling in (entry.keyword, *entry.variants):
                words = tuple(spelling.split())
                tokens = tuple(part for word in words for part in split_unspaced(word))
                if tokens in owners:
                    owner = owners[tokens].keyword
                    raise ValueError(
                        f"{where}: {spelling!r} already is a spelling of {owner!r}; remove one of the two"
                    )
                owners[tokens] = _Spelling(tokens, words, entry.keyword)
            checked[entry.keyword] = entry
        if not checked:
            raise ValueError("`keywords` is empty: a list needs at least one keyword")
        self._entries: dict[str, KeywordEntry] = checked
        # a script without spaces is read by characters in transcripts, and by words in targets
        spellings = dict.fromkeys(each for own in owners.values() for each in (own, own._replace(tokens=own.words)))
        self._vocabulary = dict.fromkeys(token for spelling in spellings for token in spelling.tokens)
        self._starting_with: dict[str, list[_Spelling]] = {}
        for spelling in spellings:
            self._starting_with.setdefault(spelling.tokens[0], []).append(spelling)
        self._words = dict.fromkeys([self.filler, *(word for keyword in checked for word in keyword.split())])
        self._decodable = {word: word for word in self._words}
        for entry in checked.values():
            for variant in entry.variants:
                if " " not in variant:
                    self._decodable.setdefault(variant, variant if " " in entry.keyword else entry.keyword)


def unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """For `json.loads(object_pairs_hook=…)`, which else keeps a key's last value: ValueError if one occurs twice."""
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key!r} occurs twice in an object")
        values[key] = value
    return values


def _check_fields(data: object, where: str, required: Set[str], optional: Set[str] = frozenset()) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be an object with the fields {sorted(required)}, not {data!r}")
    if missing := required - data.keys():
        raise ValueError(f"{where}: missing field {min(missing)!r}; it needs {sorted(required)}")
    if unknown := data.keys() - required - optional:
        raise ValueError(f"{where}: unknown field {min(unknown)!r}; it may have {sorted(required | optional)}")


def _check_characters(text: str, where: str) -> None:
    """Half a character, which JSON can escape alone, stands in no file and has no hash: UTF-8 has no bytes for it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} has {text!r}, with half a character: write the whole one, or none") from error


def _checked_entry(entry: KeywordEntry, filler: str, language: str, where: str) -> KeywordEntry:
    for name, values in (("labels", entry.labels), ("variants", entry.variants)):
        if not isinstance(values, list | tuple) or not all(isinstance(v, str) and v.strip() for v in values):
            raise ValueError(f"{where}: `{name}` must be a list of non-empty strings, not {values!r}")
        for value in values:
            _check_characters(value, f"{where}: `{name}`")
    if not entry.labels:
        raise ValueError(f"{where}: `labels` is empty; name at least one label that the keyword points to")
    if isinstance(entry.threshold, bool) or not isinstance(entry.threshold, int | float):
        raise ValueError(f"{where}: `threshold` must be a number, not {entry.threshold!r}")
    if not 0 <= entry.threshold <= 1:
        raise ValueError(f"{where}: `threshold` is {entry.threshold}; give a score from 0 to 1")
    for spelling in (entry.keyword, *entry.variants):
        words = normalize_text(spelling, language) if isinstance(spelling, str) else []
        if not words:
            raise ValueError(f"{where}: {spelling!r} is not a word or phrase; write at least one word, or remove it")
        if words != spelling.split(" "):
            raise ValueError(f"{where}: {spelling!r} can never match a normalised word; write {' '.join(words)!r}")
        if filler in words:
            raise ValueError(f"{where}: {spelling!r} contains the filler {filler!r}; remove it or change `filler`")
    return KeywordEntry(entry.keyword, tuple(entry.labels), tuple(entry.variants), float(entry.threshold))
