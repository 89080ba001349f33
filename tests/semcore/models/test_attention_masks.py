from __future__ import annotations

import pytest
import torch

from semcore.models.attention_masks import PADDING, additive, causal, pad, visible_branches


def test_rows_are_filled_up_on_either_side() -> None:
    assert pad([[1, 2], [3]], 0, "left").tolist() == [[1, 2], [0, 3]]
    assert pad([[1, 2], (3,)], 0, "right", width=3).tolist() == [[1, 2, 0], [3, 0, 0]]


def test_a_token_sees_its_branch_and_the_shared_one_up_to_itself() -> None:
    branches = [0, 0, 1, 2, 1, PADDING]
    visible = visible_branches(torch.tensor([branches]))[0] & causal(len(branches))
    for looks, own in enumerate(branches):
        expected = [place <= looks and other in (own, 0) for place, other in enumerate(branches)]
        assert visible[looks].tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_hidden_gets_no_attention(dtype: torch.dtype) -> None:
    visible = torch.tensor([[[True, False, True], [False, False, False]]])
    mask = additive(visible, dtype)
    assert (mask.shape, mask.dtype) == ((1, 1, 2, 3), dtype)
    weights = mask.softmax(dim=-1)[0, 0]
    assert weights[0].tolist() == [0.5, 0.0, 0.5]
    assert torch.isfinite(weights).all()  # of padding, which sees nothing, too
    assert additive(visible, dtype, hidden=-7.0).min() == -7.0
