"""WavLM's convolutions from a waveform to frames, with a group norm that does not see padding.

transformers normalises the first convolution of WavLM Base over the padded length, so its features of a clip depend on
the clips beside it. Here mean and variance run over each clip's own frames. The other layers mix no frames of clip and
padding: without padding of their own, a convolution's valid frames see valid samples alone.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.wavlm.modeling_wavlm import WavLMFeatureEncoder, WavLMGroupNormConvLayer

from .configuration_toxmtl import WavLMToxicityMTLConfig
from .outputs import length_mask


def masked_group_norm(channels: torch.Tensor, norm: nn.GroupNorm, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Group norm of `(B, C, T)` with one group per channel, over the frames on which the mask `(B, T)` is True."""
    if mask is None:
        return norm(channels)
    mask = mask[:, None, :]
    exact = channels.float() if channels.dtype.itemsize == 2 else channels  # long sums leave the range of float16
    count = mask.sum(-1, keepdim=True)
    mean = torch.where(mask, exact, 0).sum(-1, keepdim=True) / count
    variance = torch.where(mask, exact - mean, 0).square().sum(-1, keepdim=True) / count
    scale = norm.weight[:, None] * torch.rsqrt(variance + norm.eps)  # (B, C, 1)
    return ((exact - mean) * scale + norm.bias[:, None]).to(channels.dtype)


class ExactGroupNormConvLayer(WavLMGroupNormConvLayer):
    """First convolution of WavLM Base, normalised over each clip's own length."""

    def forward(self, hidden_states: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, 1, samples)` to `(B, C, T)`; `lengths` are the valid samples of each clip, `(B,)`."""
        channels = self.conv(hidden_states)
        mask = None
        if lengths is not None:
            num_frames = (lengths - self.conv.kernel_size[0]) // self.conv.stride[0] + 1
            mask = length_mask(num_frames, channels.shape[2])
        return self.activation(masked_group_norm(channels, self.layer_norm, mask))


class FeatureEncoder(WavLMFeatureEncoder):
    """Waveforms `(B, samples)` to frames `(B, T, C)`."""

    def __init__(self, config: WavLMToxicityMTLConfig):
        super().__init__(config)
        self.num_frames = config.num_frames
        if config.feat_extract_norm == "group":
            self.conv_layers[0] = ExactGroupNormConvLayer(config, layer_id=0)

    def forward(self, input_values: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """`lengths` are the valid samples of each clip, `(B,)`; without them all are.

        On a CPU, a padded clip goes through the layers by itself, without its padding: there, a batch costs what its
        clips do, and the convolutions are half of the model.
        """
        is_eager = not torch.compiler.is_compiling() and not torch.jit.is_tracing()
        if lengths is None or not is_eager or input_values.device.type != "cpu":
            return self._encode(input_values, lengths)
        num_frames = self.num_frames(input_values.shape[1])
        clips = [self._encode(clip[None, :length]) for clip, length in zip(input_values, lengths, strict=True)]
        return torch.cat([F.pad(clip, (0, 0, 0, num_frames - clip.shape[1])) for clip in clips])

    def _encode(self, input_values, lengths=None):
        first, *others = self.conv_layers
        hidden_states = input_values[:, None]  # (B, 1, samples)
        if first.gradient_checkpointing and self._requires_grad and self.training:
            hidden_states = hidden_states.detach().requires_grad_()  # else a reentrant checkpoint gives no gradients
        is_exact = isinstance(first, ExactGroupNormConvLayer)
        hidden_states = first(hidden_states, lengths) if is_exact else first(hidden_states)
        for layer in others:
            hidden_states = layer(hidden_states)
        return hidden_states.transpose(1, 2)
