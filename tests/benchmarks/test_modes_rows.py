"""`benchmarks.modes` reports the weights that changed; the modes it leaves out are those that recipes refuse."""

from pathlib import Path

import pytest
import torch

from benchmarks.modes import COLUMNS, KINDS, REFUSED, WORDS, Mode, modes, shares_moved, start_of, write_table
from benchmarks.report import Row
from semcore.models.adapters import BaseNote, write_note
from semcore.models.checkpoint import load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.lora import apply_lora
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import asset_folder, resource_folder
from semcore.training.launcher import CONFIG_VARIABLE
from semcore.training.option_checks import check_mode


def test_the_fraction_of_a_part_that_moved() -> None:
    mode = Mode("full", "full", None)
    start, trained = start_of(mode), start_of(mode)
    layer = trained.model.model.language_model.layers[0].mlp.up_proj
    embedding = trained.model.get_input_embeddings()
    with torch.no_grad():
        layer.weight.add_(1)
        embedding.weight[-4:-2].add_(1)
    text = trained.model.model.language_model.num_parameters() - embedding.weight[-4:].numel()
    shares = shares_moved(start, trained)
    assert shares == {
        "vision": 0, "projector": 0, "text": pytest.approx(layer.weight.numel() / text), "new rows": 0.5
    }  # fmt: skip


def test_an_adapter_moves_nothing_of_its_packed_base(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    checkpoint = load_checkpoint(asset_folder("scenes_base"), quantization="nf4")
    ids = add_cluster_tokens(checkpoint, len(WORDS), WORDS)
    model = apply_lora(
        checkpoint.model, rank=4, alpha=8, dropout=0.0, target_modules=["q_proj"], new_token_ids=ids
    )  # fmt: skip
    for name, weight in model.named_parameters():
        if "layers.0" in name and "lora_B" in name:
            torch.nn.init.ones_(weight)
    for part in (model, checkpoint.tokenizer, checkpoint.image_processor):
        part.save_pretrained(tmp_path)
    write_note(tmp_path, BaseNote("", "nf4", "float32"))
    num_layers = checkpoint.model.config.text_config.num_hidden_layers
    shares = shares_moved(start_of(Mode("QLoRA", "QLoRA", None)), load_checkpoint(tmp_path))
    adapters = pytest.approx(1 / num_layers)
    assert shares == {"vision": 0, "projector": 0, "text": 0, "new rows": 0, "adapters": adapters}


def test_the_table_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    rows = [Row(f"LoRA, ZeRO-2, {column}", number + 0.5, None, None, "") for number, column in enumerate(COLUMNS)]
    document, results = tmp_path / "R.md", Path("r.json")
    document.write_text("above\n<!-- results: r.json -->\nold\n<!-- /results -->\nbelow\n")
    write_table(document, results, rows[:-2] + rows[-1:] + [Row("LoRA, ZeRO-2, seconds", 8.0, None, None, "s")])
    text = document.read_text()
    assert text.startswith("above\n<!-- results: r.json -->\n\n| mode | loss before |")
    assert text.endswith("| LoRA, ZeRO-2 | 0.5 | 1.5 | 2.5 | 3.5 | 4.5 | 5.5 | 6.5 | 8.0 | 8.5 |\n\n"
                         "<!-- /results -->\nbelow\n")  # fmt: skip
    with pytest.raises(UserError, match=r"has no line <!-- results: other.json -->"):
        write_table(document, Path("other.json"), rows)


@pytest.mark.parametrize("mode", modes(), ids=lambda mode: mode.name)
def test_what_is_refused_is_what_recipes_refuse(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcore.models.quantization.find_spec", lambda name: name)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    if mode.engine is not None:
        config = resource_folder("ds_configs") / f"cpu_{mode.engine.lower().replace('-', '').replace(' ', '_')}.json"
        monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
        monkeypatch.setenv(CONFIG_VARIABLE, str(config))
    options = KINDS[mode.kind]
    rank, packing = int(options.get("lora.rank", "0")), options.get("lora.quantization", "none")
    optim = options.get("training.optim", "adamw_torch_fused")
    try:
        check_mode(rank, packing, True, optim=optim, dtype="auto", device_map=None, report_to="none")
        refused = False
    except UserError:
        refused = True
    assert refused is (mode.engine in REFUSED.get(mode.kind, ()))
