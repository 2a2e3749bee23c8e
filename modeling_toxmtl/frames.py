"""How an encoder of each family divides time: the frames that it makes of a clip, and how short and long one may be.

The classes read a configuration's fields, be it transformers' or what a `config.json` holds.
"""

import math
from collections.abc import Sequence
from typing import TypeVar


Count = TypeVar("Count")  # an integer, or an integer array or tensor of any shape
MEL_HOP = 160  # samples between two mel frames, as Whisper's feature extractor has them
MEL_WINDOW = 400  # samples


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Inputs that one output of a stack of convolutions sees."""
    size = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        size = (size - 1) * stride + kernel
    return size


class ConvolutionFrames:
    """WavLM's, by its fields `conv_kernel` and `conv_stride`."""

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples between two frames."""
        return math.prod(self.conv_stride)

    @property
    def receptive_field(self) -> int:
        """Samples that one output frame of the feature encoder sees: the shortest clip that the model can hear."""
        return receptive_field(self.conv_kernel, self.conv_stride)

    @property
    def max_samples(self) -> None:
        """The longest clip that the model can hear; there is no limit."""
        return None

    def num_frames(self, num_samples: Count) -> Count:
        """Frames that the feature encoder makes of `num_samples` samples."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples


class MelFrames:
    """Whisper's, by its field `max_source_positions`."""

    @property
    def inputs_to_logits_ratio(self) -> int:
        """Samples between two frames."""
        return 2 * MEL_HOP

    @property
    def receptive_field(self) -> int:
        """The shortest clip that the model can hear, in samples: one window of the spectrogram."""
        return MEL_WINDOW

    @property
    def max_samples(self) -> int:
        """The longest clip that the model can hear, in samples: it has so many positions."""
        return self.max_source_positions * self.inputs_to_logits_ratio

    def num_frames(self, num_samples: Count) -> Count:
        """Frames that the encoder makes of `num_samples` samples."""
        return (num_samples // MEL_HOP + 1) // 2
