"""The recipe of the base checkpoint of the scenes, as far as it goes without training."""

import pytest
import torch

from recipes.pretrain_scenes import Settings, main
from semcore.runtime.errors import UserError


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UserError, match="no device 'cuda'"):
        main(Settings(out=tmp_path / "base", work=tmp_path / "work", device="cuda"))
    assert list(tmp_path.iterdir()) == []
