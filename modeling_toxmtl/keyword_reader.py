"""From the logits of a keyword head to the keywords of a list, with times and scores.

Decoders are made from the list as it is at each call and cached by its content, so edits act at once.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from .alphabet import Alphabet
from .decoders import build_decoder, log_softmax
from .decoding import DecodedClip, DecodedWord, Decoder, DecodingSettings, DetectedKeyword
from .frames import ConvolutionFrames, MelFrames
from .keywords import KeywordList
from .language_model import usable_common_words, usable_language_model


KEYWORD_TARGETS = ("keywords", "transcript")


class KeywordReader:
    """What a processor reads keywords with; a class that inherits sets its attributes.

    Attributes:
        keywords: the list.
        decoding: how they are decoded.
        keyword_target: what the head writes, one of `KEYWORD_TARGETS`.
        language_model: path of a word n-gram model, or None.
        common_words: path of a text file of common words, or None.
        alphabet: of the head.
        sampling_rate: of the clips, in Hz.
    """

    keywords: KeywordList
    decoding: DecodingSettings
    keyword_target: str
    language_model: str | None
    common_words: str | None
    alphabet: Alphabet
    sampling_rate: int

    def decode_keywords(
        self,
        keyword_logits: ArrayLike,
        config: ConvolutionFrames | MelFrames,
        num_samples: Sequence[int] | None = None,
        decoder: str | None = None,
    ) -> list[DecodedClip]:
        """Reads keywords, with times and scores, from the model's `keyword_logits`.

        Args:
            keyword_logits: `(clips, frames, characters)`, array or tensor.
            config: of the model: it tells how many samples a frame is.
            num_samples: length of each clip in samples; without it every frame counts.
            decoder: "lexicon", "pyctcdecode" or "greedy"; by default that of `decoding`.

        Returns:
            one `DecodedClip` per clip; its keywords are in order of time and lie inside the clip.

        Raises:
            ValueError: the logits have another shape, or another alphabet than the tokenizer, the edited list has
                characters outside it, or there is no such decoder.
            FileNotFoundError: the language model or the common words are gone.
            ImportError: pyctcdecode is asked for and not installed.
        """
        if hasattr(keyword_logits, "detach"):  # a tensor, which numpy may not read as it is
            keyword_logits = keyword_logits.detach().float().cpu()
        logits = np.asarray(keyword_logits, dtype=np.float32)
        if logits.ndim != 3:
            raise ValueError(f"`keyword_logits` must be (clips, frames, characters), but is of shape {logits.shape}.")
        if num_samples is None:
            num_samples = [logits.shape[1] * config.inputs_to_logits_ratio] * len(logits)
            num_frames = [logits.shape[1]] * len(logits)
        else:
            num_frames = [max(int(config.num_frames(int(samples))), 0) for samples in num_samples]
        reader = self.decoder(decoder)
        seconds_per_frame = config.inputs_to_logits_ratio / self.sampling_rate
        clips = []
        for clip_logits, frames, samples in zip(logits, num_frames, num_samples, strict=True):
            words = reader.decode(log_softmax(clip_logits[:frames]))
            clips.append(self._find_keywords(words, seconds_per_frame, duration=int(samples) / self.sampling_rate))
        return clips

    def decoder(self, name: str | None = None) -> Decoder:
        """The decoder of a name, by default that of `decoding`, for the list as it is now. Errors are those of
        `decode_keywords`."""
        settings = self.decoding if name is None else replace(self.decoding, decoder=name)
        writes_all_words = self.keyword_target == "transcript"
        spellings = self.keywords.spellings if writes_all_words else self.keywords.decodable
        alphabet = self.alphabet
        return build_decoder(
            settings,
            alphabet.characters,
            alphabet.blank,
            alphabet.delimiter,
            self.keywords.words,
            tuple(spellings.items()),
            self.keywords.filler,
            None if settings.decoder == "greedy" else usable_language_model(self.language_model),
            usable_common_words(self.common_words) if writes_all_words else None,
        )

    def _find_keywords(self, words: list[DecodedWord], seconds_per_frame: float, duration: float) -> DecodedClip:
        texts = [word.text for word in words]
        keywords, sequence, position = [], [], 0
        for match in self.keywords.find(texts):
            said = words[match.start : match.end]
            sequence += texts[position : match.start]
            position = match.end
            score = min(word.score for word in said)
            if score < self.keywords.threshold_of(match.keyword):
                sequence += [self.keywords.filler] * len(said)
                continue
            start, end = (
                min(frame * seconds_per_frame, duration) for frame in (said[0].start_frame, said[-1].end_frame)
            )
            keywords.append(DetectedKeyword(match.keyword, self.keywords.labels_of(match.keyword), start, end, score))
            sequence.append(match.keyword)
        return DecodedClip(keywords, sequence + texts[position:])
