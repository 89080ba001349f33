"""Text -> image retrieval on captions alone: a dataset and captions of a Karpathy-layout file, without its pictures.

One sentence of each image, drawn by lot, stands for the picture: it is the caption that a model would have written.
The others are the queries. The dataset is made by `data_prep.from_karpathy`, as any; its pictures are small squares of
one colour, as every item needs one, and no model looks at them.
"""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from data_prep import from_karpathy
from semcore.data.dataset import load_dataset
from semcore.runtime.files import write_json, write_jsonl

SIDE = 8


def make_dataset(captions: Path, out: Path, num_images: dict[str, int], num_queries: int, seed: int) -> None:
    """Write OUT/data and OUT/captions.jsonl.

    Args:
        captions: a caption file in the Karpathy layout, .json or .json.gz.
        out: the folder.
        num_images: split -> images drawn from it.
        num_queries: sentences that a training image is asked for with; of the other splits all are kept.
        seed: of what is drawn.
    """
    if (out / "captions.jsonl").exists():
        return
    content = captions.read_bytes()
    whole = json.loads(gzip.decompress(content) if captions.suffix == ".gz" else content)
    rng = random.Random(seed)
    chosen = [image for split, count in num_images.items() for image in _draw(whole["images"], split, count, rng)]
    texts = {}
    for image in chosen:
        caption, *queries = rng.sample(image["sentences"], len(image["sentences"]))
        texts[image["filename"]] = caption["raw"]
        image["sentences"] = queries[:num_queries] if image["split"] == "train" else queries
    source = out / "source"
    write_json(source / "captions.json", {"dataset": whole["dataset"], "images": chosen})
    _draw_squares(source / "pictures", list(texts))
    from_karpathy.main(
        from_karpathy.Settings(json=source / "captions.json", images=source / "pictures", out=out / "data")
    )
    rows = [
        {"image_id": record.image_id, "caption": texts[Path(record.source_file).name]}
        for record in load_dataset(out / "data").images
    ]
    write_jsonl(out / "captions.jsonl", rows)


def _draw(images: list[dict[str, Any]], split: str, count: int, rng: random.Random) -> list[dict[str, Any]]:
    own = [image for image in images if image["split"] == split and len(image["sentences"]) > 1]
    return rng.sample(own, min(count, len(own)))


def _draw_squares(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (SIDE, SIDE), (number % 256, number // 256 % 256, 128)).save(folder / name)
