"""Layer fusion after CART (section 3.4, equations 2 to 5): what is written next reads several layers, not the last one.

CART's decoder layers read all layers of its encoder in a coarse and a fine branch. A decoder-only model has neither
encoder nor cross-attention; E_i, the output of its layer i at the same position, has attended to the query through i
layers and stands for C(Y, E_i). The branches are added in front of the text model's last norm:

    G = sigmoid(W [E_1 .. E_S] + b) / S
    L = the sum over i of sigmoid(W_i [h, E_i] + b_i) * E_i
    norm(h + g G + l L)

g = l = 0 at the start: a model with a new fusion has the logits that it had without. The output head stays a plain
linear map of the last states, so the search needs to know nothing of it.

Shapes: S fused layers, H the text model's hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from semcore.runtime.peft_models import without_adapter

LAYER_FUSION = "layer_fusion"


class LayerFusion(nn.Module):
    """Both branches over the outputs of some layers.

    Attributes:
        layers: numbers of the fused layers, (S,).
    """

    def __init__(self, layers: Sequence[int], hidden_size: int):
        super().__init__()
        self.layers = tuple(layers)
        self.coarse = nn.Linear(len(self.layers) * hidden_size, hidden_size)
        self.gates = nn.ModuleList([nn.Linear(2 * hidden_size, hidden_size) for _ in self.layers])
        self.scales = nn.Parameter(torch.zeros(2))
        self._states: dict[int, torch.Tensor] | None = None  # of a pass that has not reached the norm yet

    def forward(self, last: torch.Tensor, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the states before the norm (..., H) with both branches added.

        Args:
            last: output of the last layer (..., H).
            states: outputs of the fused layers, S of (..., H).
        """
        dtype = self.coarse.weight.dtype
        own, hidden = [state.to(last.device, dtype) for state in states], last.to(dtype)
        coarse = self.coarse(torch.cat(own, dim=-1)).sigmoid() / len(own)
        fine = sum(gate(torch.cat([hidden, state], dim=-1)).sigmoid() * state
                   for gate, state in zip(self.gates, own, strict=True))  # fmt: skip
        added = self.scales[0] * coarse + self.scales[1] * fine
        return last + added.to(last.dtype)

    def begin(self) -> None:
        """Keep the states of a new pass."""
        self._states = {}

    def keep(self, layer: int, state: torch.Tensor) -> None:
        """Keep a layer's output (..., H); not in a backward pass that computes it again, where no norm follows."""
        if self._states is not None:
            self._states[layer] = state

    def end(self) -> list[torch.Tensor]:
        """Return the outputs (..., H) of the fused layers in their order, and forget them."""
        kept, self._states = self._states or {}, None
        return [kept[layer] for layer in self.layers]


def spread_layers(num_layers: int, num_fused: int) -> tuple[int, ...]:
    """Return the numbers of `num_fused` layers, evenly spread, the last one among them.

    >>> spread_layers(24, 3), spread_layers(5, 9)
    ((7, 15, 23), (0, 1, 2, 3, 4))
    """
    number = min(num_layers, num_fused)
    return tuple((place + 1) * num_layers // number - 1 for place in range(number))


def find_layer_fusion(model: Any) -> LayerFusion | None:
    """Return a model's layer fusion, None where it has none."""
    return getattr(without_adapter(model), LAYER_FUSION, None)


def new_layer_fusion(model: Any, num_fused: int, seed: int = 0) -> LayerFusion:
    """Attach a fusion that changes nothing yet to a native InternVL model, or an adapter on one, and return it.

    Args:
        model: the model.
        num_fused: number of layers, evenly spread.
        seed: of its weights.
    """
    base: Any = without_adapter(model)
    text = base.config.text_config
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fusion = LayerFusion(spread_layers(text.num_hidden_layers, num_fused), text.hidden_size)
    attach_layer_fusion(model, fusion)
    return fusion


def attach_layer_fusion(model: Any, fusion: LayerFusion) -> None:
    """Make a fusion a submodule of a model, on its device, and let it read the layers and feed the last norm."""
    base: Any = without_adapter(model)
    base.add_module(LAYER_FUSION, fusion.to(base.device))
    text = base.get_decoder()

    def begin(_module: Any, _inputs: Any) -> None:
        fusion.begin()

    def keeper(layer: int) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            fusion.keep(layer, output[0] if isinstance(output, tuple) else output)

        return keep

    def fuse(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (fusion(inputs[0], fusion.end()),)

    text.register_forward_pre_hook(begin)
    for layer in fusion.layers:
        text.layers[layer].register_forward_hook(keeper(layer))
    text.norm.register_forward_pre_hook(fuse)
