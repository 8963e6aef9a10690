"""The cross-attention of a denoiser, as it runs: its probabilities, and what gradients flow through."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def watched(unet: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which each forward pass adds the probabilities [batch, heads × places, tokens] of every `attn2`.

    They are part of the graph. The layers are as before when the context ends.
    """
    found: list[Tensor] = []
    layers: list[Any] = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    before = [layer.processor for layer in layers]
    for layer in layers:
        layer.set_processor(_Watch(found))
    try:
        yield found
    finally:
        for layer, processor in zip(layers, before, strict=True):
            layer.set_processor(processor)


@contextlib.contextmanager
def beginning_held(unet: nn.Module) -> Iterator[None]:
    """No gradient flows through the first token's keys and values of any `attn2`, until the context ends."""

    def held(module: nn.Module, inputs: Any, found: Tensor) -> Tensor:
        return torch.cat([found[:, :1].detach(), found[:, 1:]], 1)

    ends = (".attn2.to_k", ".attn2.to_v")
    hooks = [layer.register_forward_hook(held) for name, layer in unet.named_modules() if name.endswith(ends)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Watch:
    """An attention processor of diffusers that computes the probabilities openly and keeps them."""

    def __init__(self, found: list[Tensor]) -> None:
        self._found = found

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
        query, key, value = (attn.head_to_batch_dim(x) for x in (query, key, value))
        probabilities = attn.get_attention_scores(query, key)  # [batch × heads, places, tokens]
        batch = hidden_states.shape[0]
        self._found.append(probabilities.float().reshape(batch, -1, probabilities.shape[-1]))
        mixed = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        out: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return out / float(attn.rescale_output_factor)
