"""The sentences of the demo corpus, and the labels that follow from their making.

A clip says one or two *pieces* (long clips: many), some inside a carrier sentence. A piece is one of

- benign: an everyday sentence of voice chat ("benign"), one that borrows the words of the cues in a harmless sense
  ("near-miss"), or one that only quotes a keyword or uses it in another sense ("quote", "sense-trash");
- a keyword in a sentence that means it ("insult", "exclamation", ...), which has the keyword's labels;
- a cue: a phrase that violates without any keyword ("uninstall the game"), which has the cue's label.

Design choices:
- Templates are disjoint between the splits; words and cues are shared. A model can learn what a cue sounds like, not
  the sentence around it: no sentence of one split occurs in another, which `generate_corpus` enforces.
- Carriers are the same for all labels, so that they say nothing about the label.
- Neither task can be solved by the other: about 10 % of the clips with a keyword are benign, and 22 % of the violating
  clips have no keyword.
- The first keywords of each set of labels are spoken, 25 of the 81: three hours of speech cannot teach them all.
- Keywords are dealt from decks, not drawn, so that a rare one is rare by plan and never missing by chance.
- Only the keywords themselves are spoken, not their variants: three hours of speech are too few for 300 spellings.
- Words are at dictionary level. The Racist class uses invented words, peoples and places, and no slur against any
  group of people.
"""

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modeling_toxmtl.data.schema import SPLITS
from modeling_toxmtl.keywords import KeywordList
from modeling_toxmtl.labels import LABELS, NO_VIOLATION
from modeling_toxmtl.text import normalize_text


NO_VIOLATION_SHARE = 0.38  # of all clips
BENIGN_KEYWORD_SHARE = 0.13  # of the NoViolation clips: 10 % of the clips with a keyword
NEAR_MISS_SHARE = 0.1  # of the other benign pieces
CUE_SHARE = 0.22  # of the violating clips: no keyword in them
KEYWORD_AGAIN_SHARE = 0.8  # of the second violating pieces of a clip with a keyword: a keyword too, the rest are cues
SECOND_PIECE_SHARES = {"same labels": 0.4, "other labels": 0.17, "benign": 0.13, None: 0.3}  # of the violating clips
SECOND_BENIGN_SHARE = 0.45  # of the NoViolation clips, so that length tells nothing about the label
KEYWORDS_PER_DECK = 4  # three hours of speech teach about two dozen words, not the 81 of the list
LONG_CLIP_EVERY = 50  # clips of validation and test: 2 % go beyond the 15 s window of the model, up to 60 s
LONG_CLIP_PIECES = (10, 24)  # of about 2.3 s
LONG_CLIP_VIOLATION_SHARE = 0.25  # of the pieces of a violating long clip
OTHER_SENSE_SHARE = 0.5  # of the benign pieces with a keyword that has another sense; the rest quote it
CARRIER_SHARE = 0.3  # of the clips that say more than cues; keywords among few other words are learnt sooner
MAX_WORDINGS = 1000  # of one clip before the grammar counts as exhausted

_SLOT = re.compile(r"\{([^{}]+)\}")


def words_of(text: str) -> tuple[str, ...]:
    """Words and phrases from a list with commas."""
    return tuple(text.split(", "))


@dataclass(frozen=True)
class Grammar:
    """The words and sentences of one language.

    In a template, `{name}` takes a word of the lexicon of that name, `{a|b}` one of the alternatives; `{content}`,
    `{keyword}` and `{a_keyword}` (with its article) are filled by the clip.

    Args:
        lexicons: name to words.
        cues: label to phrases that violate without a keyword; shared by the splits.
        cue_weights: label to how often it gets a cue.
        templates: kind to split to templates. The kinds are "carrier", "benign", "near-miss", "quote", "exclamation",
            those of `forms`, and "sense-<keyword>" for a keyword that has another sense.
        forms: keyword to the kind of sentence it fits. One that is not named is an exclamation, which any word can be.
        phrases: what is said for a keyword that needs more words to fit the sentences of its form.
        variants: kind to keyword to the variant that is said for it in templates of this kind.
        with_article: a keyword to itself with its indefinite article, in a language whose templates ask for it.
        connectives: what stands between pieces.
    """

    lexicons: Mapping[str, Sequence[str]]
    cues: Mapping[str, Sequence[str]]
    cue_weights: Mapping[str, float]
    templates: Mapping[str, Mapping[str, Sequence[str]]]
    forms: Mapping[str, str]
    connectives: Sequence[str]
    phrases: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    with_article: Callable[[str], str] | None = None

    def template_ids(self, kind: str, split: str) -> tuple[str, ...]:
        """Ids of the templates of one kind and split, such as "insult-004". No id is in two splits."""
        sizes = [len(self.templates[kind][name]) for name in SPLITS]
        start = sum(sizes[: SPLITS.index(split)])
        return tuple(f"{kind}-{start + position:03d}" for position in range(len(self.templates[kind][split])))

    def render(self, template: str, rng: np.random.Generator, **fills: str) -> str:
        """Fills the slots of a template: from `fills`, else with one of its alternatives or a word of the lexicon."""

        def fill(match: re.Match) -> str:
            slot = match[1]
            if slot in fills:
                return fills[slot]
            return _pick(slot.split("|") if "|" in slot else self.lexicons[slot], rng)

        return _SLOT.sub(fill, template)

    def keyword_fills(self, piece: "Piece") -> dict[str, str]:
        """What the slots of a piece's template are filled with."""
        if piece.keyword is None:
            return {}
        spoken = piece.keyword  # quoted as it is
        if piece.labels:
            phrase = self.phrases.get(piece.keyword, piece.keyword)
            spoken = self.variants.get(piece.kind, {}).get(piece.keyword, phrase)
        fills = {"keyword": spoken}
        return fills if self.with_article is None else fills | {"a_keyword": self.with_article(piece.keyword)}


@dataclass(frozen=True)
class Piece:
    """One thing said, and the labels that follow.

    `kind` is a key of `Grammar.templates`, or "cue". `keyword` is None where none is said. `labels` is empty if it is
    benign.
    """

    kind: str
    keyword: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipText:
    """What a clip says.

    `labels` are in the order of `LABELS`, `pieces` in the order of speaking. `templates` are the ids of the carrier,
    if any, and of every piece but the cues: those are shared by the splits and so are no templates.
    """

    split: str
    transcript: str
    labels: tuple[str, ...]
    pieces: tuple[Piece, ...]
    templates: tuple[str, ...]

    @property
    def keywords(self) -> tuple[str, ...]:
        """Those of its pieces, in order."""
        return tuple(piece.keyword for piece in self.pieces if piece.keyword)


def _pick(options: Sequence, rng: np.random.Generator):
    return options[int(rng.integers(len(options)))]


class KeywordDealer:
    """Hands out keywords from shuffled decks, one for each set of labels; a deck that is used up is shuffled anew.

    A deck has the first `keywords_per_deck` keywords of the list that have its labels, the first of them more often,
    about as 1 / rank; or, if that is None, all of them once.
    """

    def __init__(self, keyword_list: KeywordList, keywords_per_deck: int | None = KEYWORDS_PER_DECK):
        self._decks: dict[tuple[str, ...], list[str]] = {}
        for entry in keyword_list:
            self._decks.setdefault(entry.labels, []).append(entry.keyword)
        # One more than the keywords: small groups would be hard to learn otherwise.
        self.weights = {labels: len(keywords) + 1 for labels, keywords in self._decks.items()}
        if keywords_per_deck is not None:
            self._decks = {labels: _with_copies(words[:keywords_per_deck]) for labels, words in self._decks.items()}
        self._left = {labels: [] for labels in self._decks}

    def deal(self, labels: tuple[str, ...], rng: np.random.Generator) -> str:
        """The next keyword that has these labels."""
        if not self._left[labels]:
            self._left[labels] = [self._decks[labels][i] for i in rng.permutation(len(self._decks[labels]))]
        return self._left[labels].pop()


def _with_copies(keywords: Sequence[str]) -> list[str]:
    copies = [max(1, round(len(keywords) / (1.5 * rank))) for rank in range(1, len(keywords) + 1)]
    return [keyword for keyword, count in zip(keywords, copies, strict=True) for _ in range(count)]


def _anything(option: object) -> bool:
    return True


class ClipGenerator:
    """Makes the texts of one split, clip after clip.

    Args:
        split: one of `SPLITS`.
        keyword_list: whose keywords are spoken.
        grammar: of the language to speak.
        said: the sentences, as normalised words, that must not be made again; `generate_clip` adds to it. Splits that
            share it have no sentence in common.
    """

    benign_keyword_share = BENIGN_KEYWORD_SHARE
    second_piece_shares = SECOND_PIECE_SHARES

    def __init__(self, split: str, keyword_list: KeywordList, grammar: Grammar, said: set[tuple[str, ...]]):
        self.split, self.grammar = split, grammar
        self._keyword_list = keyword_list
        self._said = said
        self._dealer = KeywordDealer(keyword_list)
        self._cue_weights = {(label,): weight for label, weight in grammar.cue_weights.items()}

    def generate_clip(self, rng: np.random.Generator, is_long: bool = False) -> ClipText:
        """Makes the text of one clip.

        Args:
            rng: source of all choices.
            is_long: whether the clip is a chain of many pieces, for the longest durations.

        Raises:
            ValueError: if no new sentence is found: the split is larger than the grammar, or the keyword list contains
                everyday words of its templates.
        """
        pieces = self._plan_long(rng) if is_long else self._plan(rng)
        pieces = tuple(pieces[i] for i in rng.permutation(len(pieces)))
        for _ in range(MAX_WORDINGS):
            transcript, templates = self._word(pieces, rng)
            words = tuple(normalize_text(transcript, self._keyword_list.language))
            clip = ClipText(self.split, transcript, _labels_of(pieces), pieces, templates)
            spoken = tuple(match.keyword for match in self._keyword_list.find(words))
            if spoken == clip.keywords and words not in self._said:
                self._said.add(words)
                return clip
        raise ValueError(
            f"No new sentence in {MAX_WORDINGS} wordings of {pieces}: ask for fewer {self.split} clips, or remove the "
            f"everyday words from the keyword list (the last wording was {transcript!r})."
        )

    def _plan(self, rng: np.random.Generator) -> list[Piece]:
        if rng.random() < NO_VIOLATION_SHARE:
            first = self._quote(rng) if rng.random() < self.benign_keyword_share else self._benign(rng)
            return [first, self._benign(rng)] if rng.random() < SECOND_BENIGN_SHARE else [first]
        has_keyword = rng.random() >= CUE_SHARE
        first = self._violation(has_keyword, rng)
        second = weighted_pick(self.second_piece_shares, rng)
        if second is None:
            return [first]
        if second == "benign":
            return [first, self._benign(rng)]
        known, same = set(first.labels), second == "same labels"
        has_keyword = has_keyword and rng.random() < KEYWORD_AGAIN_SHARE
        return [first, self._violation(has_keyword, rng, lambda labels: known.issuperset(labels) == same)]

    def _plan_long(self, rng: np.random.Generator) -> list[Piece]:
        count = int(rng.integers(*LONG_CLIP_PIECES, endpoint=True))
        if rng.random() < NO_VIOLATION_SHARE:
            return [self._benign(rng) for _ in range(count)]
        has_keyword = rng.random() >= CUE_SHARE
        violations = max(1, int(rng.binomial(count, LONG_CLIP_VIOLATION_SHARE)))
        pieces = [self._violation(has_keyword, rng) for _ in range(violations)]
        return pieces + [self._benign(rng) for _ in range(count - violations)]

    def _benign(self, rng: np.random.Generator) -> Piece:
        return Piece("near-miss" if rng.random() < NEAR_MISS_SHARE else "benign")

    def _quote(self, rng: np.random.Generator) -> Piece:
        keyword = self._dealer.deal(weighted_pick(self._dealer.weights, rng), rng)
        sense = f"sense-{keyword}"
        return Piece(
            sense if sense in self.grammar.templates and rng.random() < OTHER_SENSE_SHARE else "quote", keyword
        )

    def _violation(
        self, has_keyword: bool, rng: np.random.Generator, allowed: Callable[[tuple[str, ...]], bool] = _anything
    ) -> Piece:
        """A piece whose labels are `allowed`, with a keyword if that is asked for and the list has one."""
        if has_keyword and any(map(allowed, self._dealer.weights)):
            labels = weighted_pick(self._dealer.weights, rng, allowed)
            keyword = self._dealer.deal(labels, rng)
            return Piece(self.grammar.forms.get(keyword, "exclamation"), keyword, labels)
        return Piece("cue", labels=weighted_pick(self._cue_weights, rng, allowed))

    def _word(self, pieces: Sequence[Piece], rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
        """One wording of the pieces and the ids of its templates."""
        content, identifiers = "", []
        for piece in pieces:
            if piece.kind == "cue":
                text = self.grammar.render(_pick(self.grammar.cues[piece.labels[0]], rng), rng)
            else:
                template, identifier = self._pick_template(piece.kind, rng)
                text = self.grammar.render(template, rng, **self.grammar.keyword_fills(piece))
                identifiers.append(identifier)
            content += (_pick(self.grammar.connectives, rng) if content else "") + text
        # cues alone, without a template of the split around them, would soon be used up
        if identifiers and rng.random() >= CARRIER_SHARE:
            return content, tuple(identifiers)
        carrier, identifier = self._pick_template("carrier", rng)
        return self.grammar.render(carrier, rng, content=content), (identifier, *identifiers)

    def _pick_template(self, kind: str, rng: np.random.Generator) -> tuple[str, str]:
        templates = self.grammar.templates[kind][self.split]
        number = int(rng.integers(len(templates)))
        return templates[number], self.grammar.template_ids(kind, self.split)[number]


def _labels_of(pieces: Sequence[Piece]) -> tuple[str, ...]:
    violations = {label for piece in pieces for label in piece.labels}
    return tuple(label for label in LABELS if label in violations) or (NO_VIOLATION,)


def weighted_pick(weights: Mapping, rng: np.random.Generator, allowed: Callable = _anything) -> Hashable:
    """One of the keys, as often as its weight says; only those that are `allowed`."""
    options = [option for option in weights if allowed(option)]
    bounds = np.cumsum([weights[option] for option in options])
    return options[int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right"))]


def generate_corpus(
    num_clips: Mapping[str, int], seed: int, keyword_list: KeywordList, grammar: Grammar
) -> dict[str, list[ClipText]]:
    """Makes the texts of a corpus: no sentence twice, in one split or in two.

    Args:
        num_clips: number of clips for each split.
        seed: the same seed, sizes, keyword list and grammar give the same corpus.
        keyword_list: whose keywords are spoken.
        grammar: of the language to speak.
    """
    said: set[tuple[str, ...]] = set()
    corpus = {}
    for number, split in enumerate(SPLITS):
        generator = ClipGenerator(split, keyword_list, grammar, said)
        corpus[split] = []
        for index in range(num_clips[split]):
            rng = np.random.default_rng(np.random.SeedSequence([seed, number, index]))
            is_long = split != "train" and index % LONG_CLIP_EVERY == LONG_CLIP_EVERY - 1
            corpus[split].append(generator.generate_clip(rng, is_long))
    return corpus
