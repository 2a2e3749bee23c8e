"""Task adapters (paper, section 3.3.2; after MTAN, Liu et al., CVPR 2019): soft masks on the features that the tasks
share, beside an encoder of any family.

They start as the identity: a fresh adapter changes nothing.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .kernels import with_fast_linears


class TaskAdapter(GradientCheckpointingLayer):
    """Soft mask on the shared features of one task at one place.

    Convolution, multi-head soft attention, bottleneck and LayerNorm, 4.33 M parameters at WavLM Base+ size (paper:
    "about 4.3M"). The mask lies in (0, 2) and is 1 everywhere at the start, when the bottleneck's last layer is zero.

    Args:
        config: of the model; its `hidden_size`, `num_attention_heads`, `layer_norm_eps` and `task_adapter_*` count.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.task_adapter_size or config.hidden_size
        self.num_heads = config.num_attention_heads
        self.layer_norm = nn.LayerNorm(size, eps=config.layer_norm_eps)
        self.conv = nn.Conv1d(
            size, inner, config.task_adapter_kernel_size, padding=config.task_adapter_kernel_size // 2
        )
        self.q_proj = nn.Linear(inner, inner)
        self.k_proj = nn.Linear(inner, inner)
        self.v_proj = nn.Linear(inner, inner)
        self.out_proj = nn.Linear(inner, inner)
        self.down_proj = nn.Linear(inner, config.task_adapter_bottleneck_size)
        self.up_proj = nn.Linear(config.task_adapter_bottleneck_size, size)

    def start_as_identity(self) -> None:
        """Sets the mask to 1 everywhere; a model's `_init_weights` calls it."""
        init.zeros_(self.up_proj.weight)
        init.zeros_(self.up_proj.bias)

    @with_fast_linears
    def forward(
        self, shared: torch.Tensor, previous: torch.Tensor | None = None, frame_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Adapts the features of B clips of up to T frames.

        Args:
            shared: `(B, T, D)`.
            previous: this task's features one place below, `(B, T, D)`, if there are any.
            frame_mask: `(B, T)` bool, True on valid frames; without it all are.

        Returns:
            `(B, T, D)`.
        """
        hidden_states = self.layer_norm(shared if previous is None else shared + previous)
        if frame_mask is not None:  # beyond a clip's end, the convolution sees zeros, as for the clip alone
            hidden_states = hidden_states * frame_mask[:, :, None].to(hidden_states.dtype)
        hidden_states = F.gelu(self.conv(hidden_states.mT).mT.contiguous())  # (`torch.export` needs it in order)
        hidden_states = hidden_states + self._attend(hidden_states, frame_mask)
        mask = 2 * torch.sigmoid(self.up_proj(F.gelu(self.down_proj(hidden_states))))
        return shared * mask

    def _attend(self, hidden_states, frame_mask):
        query, key, value = (
            projection(hidden_states).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, d) each
        key_mask = None if frame_mask is None else frame_mask[:, None, None, :]
        context = F.scaled_dot_product_attention(query, key, value, key_mask)
        return self.out_proj(context.transpose(1, 2).flatten(2))


class InitializesAdapters:
    """For a `PreTrainedModel` that may have task adapters: initialises them, and containers of custom code."""

    def _initialize_weights(self, module, is_custom_code=False):
        # transformers skips containers of custom code, in case it writes parameters in place. Ours uses `init` alone,
        # and some containers (positions, positional convolution, projection) are initialised as a whole.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, TaskAdapter):
            module.start_as_identity()


class TaskAdapters(nn.ModuleDict):
    """The adapters of each task by place, one for the encoder's input (0) and one for each block, or for every n-th
    (`config.task_adapter_stride`); none unless `config.use_task_adapter`."""

    def __init__(self, config: PreTrainedConfig) -> None:
        tasks = config.tasks if config.use_task_adapter else ()
        places = range(config.num_hidden_layers, -1, -config.task_adapter_stride)
        super().__init__(
            {task: nn.ModuleDict({str(place): TaskAdapter(config) for place in sorted(places)}) for task in tasks}
        )
        # what FSDP and `device_map` keep whole: transformers adds up what a model's children name
        self._no_split_modules = {TaskAdapter.__name__} if self else set()

    def forward(
        self,
        place: int,
        shared: torch.Tensor,
        previous: dict[str, torch.Tensor],
        frame_mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Each task's features, `(B, T, D)`, at a place: 0 is the encoder's input, j the output of block j. `previous`
        is what the place below gave, empty below the first adapter; a place without one gives it again."""
        return {
            task: adapters[str(place)](shared, previous.get(task), frame_mask)
            for task, adapters in self.items()
            if str(place) in adapters
        } or previous
