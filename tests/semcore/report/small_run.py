"""A small evaluated run whose every number can be counted by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from semcore.evaluation.metrics import retrieval_metrics
from semcore.evaluation.per_query import write_per_query
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.files import read_json, write_json, write_jsonl

IMAGES = [f"scene{number}" for number in range(8)]
ATTACKS = {
    "scene1-0": "<script>alert(1)</script> | a *red* [circle](http://evil.example) ![x](y) `code`",
    "scene2-0": '"><img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} www.evil.example',
    "scene3-0": "# heading\n\n- list\n\n| a | b |\n|---|---|\n\x00\x1b[31m $x$ ~~gone~~ &lt;",
}

# The rank of the right item for every query: generated (of eight), verified (of the first four), None: not there.
T2I_RANKS = {"scene0": (1, 1), "scene1": (3, 1), "scene2": (1, 2), "scene3": (2, 3), "scene4": (7, None)}
I2T_RANKS = {"scene0": (2, 1), "scene1": (1, 1), "scene2": (None, None)}
ORDER_BIAS = {
    "model": "trained",
    "num_queries": 20,
    "num_candidates": 2,
    "num_orders": 2,
    "chance": 50.0,
    "rows": [
        {"shifts": 1, "accuracy": 62.5, "accuracy_by_position": [75.0, 50.0], "spread": 12.5, "agreement": 60.0},
        {"shifts": 2, "accuracy": 70.0, "accuracy_by_position": [70.0, 70.0], "spread": 0.0, "agreement": 90.0},
    ],
}


def write_run_folder(folder: Path) -> Path:
    """Write a dataset and an evaluated run, with hostile sentences in it; return the run folder."""
    write_dataset(folder / "data")
    run = folder / "my_run"
    t2i = _write_direction(run / "t2i", T2I_RANKS, _text_queries(), {f"{image}-0": {image} for image in T2I_RANKS})
    right = {image: {f"{image}-0", f"{image}-1"} for image in I2T_RANKS}
    i2t = _write_direction(run / "i2t", I2T_RANKS, {image: f"images/{image}.png" for image in I2T_RANKS}, right)
    poor = {**t2i["generated"], "R@1": 12.5}
    write_json(
        run / "metrics.json",
        {
            "t2i": t2i,
            "i2t": i2t,
            "ceiling": {"t2i": {"R@1": 80.0}},
            "protocol": "inductive",
            "num_beams": 8,
            "split": "test",
            "seconds": {"listwise t2i test": 12.5, "listwise t2i val": 3.0, "blocks t2i test": 0.75},
            "fusion": "val",
            "fitted_on": "val",
            "cross_fitted": False,
            "verifier": "listwise",
            "num_unanswerable": {"t2i": 2, "i2t": 0},
            "ablations": {"without_trie": {"t2i": poor}, "without_verification": {"t2i": t2i["generated"]}},
            "verifiers_alone": {"listwise": {"t2i": poor}, "blocks": {"t2i": t2i["verified"]}},
            "verifiers_less_generated": {
                "blocks": {"t2i": {"fused": _change(1.5, -0.5, 3), "alone": _change(-2, -4, 0)}}
            },
            "verifiers_less_chosen": {"blocks": {"t2i": _change(-1, -2, 0.25)}},
            "verifiers": {
                "listwise": {"t2i": t2i["verified"]},
                "blocks": {"t2i": t2i["verified"]},
                "likelihood": {"t2i": t2i["generated"]},
            },
            "order_bias": {"t2i": [ORDER_BIAS]},
        },
    )
    write_json(run / "manifest.json", _manifest(folder / "data"))
    return run


def _change(mean: float, low: float, high: float) -> dict[str, dict[str, float]]:
    return {"R@1": {"mean": mean, "low": low, "high": high}}


def write_dataset(folder: Path) -> None:
    """Write eight images of one colour each, one of them truncated, with two sentences each."""
    (folder / "images").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, image_id in enumerate(IMAGES):
        file_name = f"images/{image_id}.png"
        Image.new("RGB", (64, 64), (30 * number, 80, 120)).save(folder / file_name)
        texts = [ATTACKS.get(f"{image_id}-0", f"the {image_id} as it is"), f"another word on {image_id}"]
        sentences = [{"sentence_id": f"{image_id}-{i}", "text": text} for i, text in enumerate(texts)]
        rows.append({"file_name": file_name, "image_id": image_id, "split": "test", "sentences": sentences})
    (folder / "images" / "scene7.png").write_bytes(b"\x89PNG")
    write_jsonl(folder / "metadata.jsonl", rows)
    write_json(folder / "dataset.json", {"name": "tiny <b>scenes</b>"})


def visible(text: str) -> str:
    """Return what a reader sees of a text of `ATTACKS`, on one line."""
    return " ".join(text.replace("\x00", " ").replace("\x1b", " ").split())


def change_json(path: Path, **changes: Any) -> None:
    """Write some keys of a JSON file anew."""
    write_json(path, {**read_json(path), **changes})


def _text_queries() -> dict[str, str]:
    return {f"{image}-0": ATTACKS.get(f"{image}-0", f"the {image} as it is") for image in T2I_RANKS}


def _write_direction(
    folder: Path,
    ranks: Mapping[str, tuple[int | None, int | None]],
    queries: dict[str, str],
    qrels: dict[str, set[str]],
) -> dict[str, dict[str, float]]:
    folder.mkdir(parents=True)
    items = IMAGES if folder.name == "t2i" else [f"{image}-{i}" for image in IMAGES for i in (0, 1)]
    generated, verified = {}, {}
    for query, (before, after) in zip(queries, ranks.values(), strict=True):
        found = _ranking(items, qrels[query], before)[:8]
        generated[query] = [GeneratedHit(item, f"<|cluster_3|>{item}", -float(i)) for i, item in enumerate(found)]
        verified[query] = [(item, -float(i)) for i, item in enumerate(_ranking(items, qrels[query], after)[:4])]
    write_per_query(folder / "per_query.jsonl", queries, qrels, generated, verified)
    return {
        "generated": retrieval_metrics({q: [hit.item_id for hit in hits] for q, hits in generated.items()}, qrels, 8),
        "verified": retrieval_metrics({q: [item for item, _ in hits] for q, hits in verified.items()}, qrels, 8),
    }


def _ranking(items: list[str], right: set[str], rank: int | None) -> list[str]:
    wrong = [item for item in reversed(items) if item not in right]
    return wrong if rank is None else [*wrong[: rank - 1], min(right), *wrong[rank - 1 :]]


def _manifest(data: Path) -> dict[str, Any]:
    return {
        "semcore": "0.1.0",
        "git": None,
        "data": str(data),
        "versions": {"python": "3.11.2"},
        "hardware": {"cpu": "a | b", "memory_bytes": 8 * 2**30, "gpus": []},
        "prompts": {"caption.jinja": "0123456789abcdef"},
        "stages": {
            "caption": {"seconds": 75.0, "peak_memory_bytes": 2**29, "num_processes": 1, "engine": "none"},
            "train_identifier": {
                "seconds": 125.0,
                "peak_memory_bytes": 3 * 2**29,
                "num_processes": 2,
                "engine": "deepspeed",
                "zero_stage": 2,
                "steps": 1200,
                "loss_first": 3.5,
                "loss_last": 0.25,
            },
            "evaluate": {"settings": {}, "seconds": 0.0, "finished": False},
        },
    }
