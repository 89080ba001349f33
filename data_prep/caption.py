"""Let a model write a caption of every image (paper, section 3.2.1).

Run as:

    python -m data_prep.caption --data DATA --run RUN --model CHECKPOINT
    python -m data_prep.caption --data DATA --run RUN --model OpenGVLab/InternVL3-1B-hf --batch-size 16
    python -m data_prep.caption --data DATA --run RUN --model CHECKPOINT --config recipes/configs/scenes.yaml

or with the images shared between processes, on one machine or several:

    accelerate launch --config_file ds_configs/zero1.yaml -m data_prep.caption --data DATA --run RUN --model CHECKPOINT

or by a server:

    python -m data_prep.caption --data DATA --run RUN --server http://localhost:8000 --model NAME --concurrency 64

CHECKPOINT is a folder, an adapter's folder, or a hub id. With --server the model runs elsewhere: any server
of OpenAI's protocol (vLLM, lmdeploy, `transformers serve`) that serves it under NAME. Writes

    RUN/captions.jsonl        {"image_id", "caption"}, one line per image that has one
    RUN/captions.stats.json   how many are ok, truncated, unreadable, empty, only thoughts, refused, filtered and
                              failed, and which
    RUN/features              every image as the model sees it, so that later stages need not look again

A killed job goes on where it stopped, and the result is the same. Images that cannot be read, and those of which
the model thinks aloud without end, or declines, are counted, listed and left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, get_args

from semcore.commands.arguments import parse, require_minimum, resolved, run_command
from semcore.data.dataset import Dataset, ImageRecord, load_dataset
from semcore.data.run_folder import RunFolder
from semcore.data.subsets import first_images
from semcore.models.captioning.local import WRITTEN, Caption, Outcome, caption_images, caption_stats
from semcore.models.captioning.openai_server import Server, check_server
from semcore.models.captioning.served import serve_captions
from semcore.models.inference import Dtype, load_for_inference
from semcore.models.lineage import Mismatch, Surroundings, as_record, check_lineage
from semcore.models.next_steps import after_captions
from semcore.models.prompts import IMAGE, Prompts, load_prompts
from semcore.models.visual_features import FeatureStore
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of, write_json, write_jsonl
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.ranks import is_main_process
from semcore.runtime.resumable import in_chunks, remove_work_folder, work_folder
from semcore.runtime.settings import LineageSettings
from semcore.runtime.typed_commands import data_command


@dataclass
class Settings(LineageSettings):
    """How captions are written."""

    help_sections: ClassVar = {"batch_size": "generation", "server": "server"}

    data: Path
    """The dataset folder."""
    run: Path
    """The run folder; it is made where there is none."""
    model: str = ""
    """The model that writes: a checkpoint folder, an adapter's folder, or a hub id."""
    config: Path | None = None
    """A YAML file whose section `caption` is read before the flags."""
    limit: int | None = None
    """Caption so many images only, shared out over the splits, for a quick trial."""
    batch_size: int = 64  # ours: little is gained above it on two cores, and a GPU holds it at one tile an image
    """Images captioned at once."""
    max_new_tokens: int = 128  # ours: captions of a sentence or two
    """A longer caption is cut off, and counted as truncated."""
    num_beams: int = 1  # ours: greedy; the paper does not say
    """Beams of the search for a caption; 1 is greedy decoding."""
    dtype: Dtype = "auto"
    """Precision: "auto" is bfloat16 where the device multiplies it natively, else float32."""
    device: str | None = None
    """Where the model runs ("cpu", "cuda"); by default the fastest device there is."""
    keep_features: bool = True
    """Store every image's visual features in RUN/features; false saves disk space and costs time."""
    server: str | None = None
    """The address of a server that writes the captions, such as http://localhost:8000."""
    concurrency: int = 16  # ours: enough to keep a GPU's batches full
    """Requests to the server under way at once, --batch-size at most."""
    timeout_s: float = 120.0  # ours
    """Seconds without a sign of life from the server that count as no answer."""
    max_attempts: int = 6  # ours: with growing pauses, half a minute in all
    """How often the server is asked for one image."""
    api_key_variable: str | None = None
    """The environment variable that holds the key the server wants, if it wants one."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "batch_size", "max_new_tokens", "num_beams", "limit", "concurrency", "max_attempts")
        if not self.model:
            raise UserError("--model is missing: give a checkpoint folder or a hub id")
        if self.timeout_s <= 0:
            raise UserError(f"--timeout-s must be more than 0, found {self.timeout_s}")
        if self.server is not None:
            self._check_server()

    def _check_server(self) -> None:
        if not str(self.server).startswith(("http://", "https://")):
            raise UserError(f"--server takes an address such as http://localhost:8000, found {self.server!r}")
        if self.num_beams != 1:
            raise UserError("--num-beams is for models that run here; leave it out with --server")
        if self.api_key_variable and not os.environ.get(self.api_key_variable):
            raise UserError(f"--api-key-variable {self.api_key_variable} names an environment variable that is not set")


def main(settings: Settings) -> None:
    """Caption a dataset, or say that it is done."""
    dataset = load_dataset(settings.data)
    run = RunFolder(settings.run)
    prompts = load_prompts()
    mismatches = [] if settings.server else check_model(settings)
    content = hash_of(settings.model) if settings.server else fingerprint(settings.model)
    inputs = {
        "metadata.jsonl": dataset.fingerprint,
        "the model": content,
        "caption.jinja": prompts.sha256["caption.jinja"],
    }
    with run.lock():
        stage = run.open_stage("caption", lasting(settings), inputs, dataset.folder, {"model": content})
        if stage.finished:
            if is_main_process():
                remove_work_folder(run.path, "caption")  # a kill may have come before it
                print(f"caption: already done, see {run / 'captions.jsonl'}")
            return
        run.set_config("caption", resolved(settings))
        run.set_prompts({"caption.jinja": prompts.sha256["caption.jinja"]})
        own = {name: value for name, value in lasting(settings).items() if name != "model"}
        captions = caption_dataset(settings, run, dataset, hash_of(own, inputs))
        stats = caption_stats(captions)
        if is_main_process():
            write_results(run, dataset, captions, stats)
            stage.finish(num_images=stats["num_images"], **as_record(mismatches))
            remove_work_folder(run.path, "caption")
            print_summary(run, dataset, stats)
            print_next(settings, run, dataset, captions)


def check_model(settings: Settings) -> list[Mismatch]:
    """Compare the model, and an adapter's base, with the fingerprints recorded beside it."""
    here = Surroundings(base=settings.base)
    return check_lineage(settings.model, here, settings.allowed, must_say=False)


def lasting(settings: Settings) -> dict[str, Any]:
    """Return the settings that captions depend on; the server's address and its speed are not among them."""
    passing = ("server", "concurrency", "timeout_s", "max_attempts", "api_key_variable")
    kept = {key: value for key, value in resolved(settings).items() if key not in passing}
    return {**kept, "served": True} if settings.server else kept


def caption_dataset(settings: Settings, run: RunFolder, dataset: Dataset, key: str) -> list[Caption]:
    """Caption the images batch by batch; finished batches are reloaded after an interruption."""
    records = first_images(dataset, settings.limit)
    result = in_chunks(
        work_folder(run.path, "caption", key),
        "captions",
        records,
        settings.batch_size,
        server_captioner(settings, dataset) if settings.server else model_captioner(settings, run, dataset, records),
        progress=is_main_process(),
        unit="image",
    )
    return [Caption(*row) for row in result.rows]


def model_captioner(
    settings: Settings, run: RunFolder, dataset: Dataset, records: Sequence[ImageRecord]
) -> Callable[[list[ImageRecord]], list[Caption]]:
    """Load the model, encode the images, and return a function that captions one batch."""
    checkpoint = load_for_inference(settings.model, dtype=settings.dtype, device=settings.device, base=settings.base)
    prompts: Prompts = load_prompts(special_tokens=checkpoint.special_tokens)
    folder = run / "features" if settings.keep_features else None
    features = FeatureStore(checkpoint, {r.image_id: dataset.image_path(r) for r in records}, folder)
    features.add((record.image_id for record in records), progress=is_main_process())

    def caption_batch(batch: list[ImageRecord]) -> list[Caption]:
        return caption_images(
            checkpoint,
            prompts,
            [record.image_id for record in batch],
            features,
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.num_beams,
        )

    return caption_batch


def server_captioner(settings: Settings, dataset: Dataset) -> Callable[[list[ImageRecord]], list[Caption]]:
    """Check the server, and return a function that captions one batch with it."""
    server = Server(
        str(settings.server),
        settings.model,
        settings.max_new_tokens,
        api_key=os.environ.get(settings.api_key_variable or "", ""),
        timeout_s=settings.timeout_s,
        max_attempts=settings.max_attempts,
    )
    check_server(server)
    turn = load_prompts().render("caption", image=IMAGE)

    def caption_batch(batch: list[ImageRecord]) -> list[Caption]:
        images = {record.image_id: dataset.image_path(record) for record in batch}
        return serve_captions(server, turn, images, num_at_once=settings.concurrency)

    return caption_batch


def write_results(run: RunFolder, dataset: Dataset, captions: list[Caption], stats: dict) -> None:
    """Write captions.jsonl and captions.stats.json.

    Raises:
        UserError: not one image has a caption.
    """
    written = [caption for caption in captions if caption.outcome in WRITTEN]
    if not written:
        first = next((f" ({own.image_id}: {own.reason})" for own in captions if own.reason), "")
        raise UserError(
            f"none of the {stats['num_images']} images of {dataset.folder} got a caption: {left_out(stats)}{first}; "
            f"check the images with `{data_command('check', dataset.folder)}`, or choose another --model"
        )
    write_json(run / "captions.stats.json", stats)
    write_jsonl(run / "captions.jsonl", ({"image_id": c.image_id, "caption": c.text} for c in written))


def left_out(stats: dict) -> str:
    """Return the outcomes of the images without a caption in words, "2 unreadable, 1 refused"."""
    return ", ".join(f"{stats[name]} {name}" for name in get_args(Outcome) if name not in WRITTEN and stats[name])


def print_summary(run: RunFolder, dataset: Dataset, stats: dict) -> None:
    """Say what was done, and what was left out."""
    written = sum(stats[name] for name in WRITTEN)
    print(f"caption: {written} captions in {run / 'captions.jsonl'}, {stats['truncated']} of them truncated")
    named = [stats[f"{name}_images"] for name in get_args(Outcome) if name not in (*WRITTEN, "empty")]
    for entry in list(chain.from_iterable(named))[:10]:
        print(f"caption: left out {entry['image_id']}: {entry['reason']}")
    if written < stats["num_images"]:
        print(
            f"caption: left out {stats['num_images'] - written} of {stats['num_images']} images "
            f"({left_out(stats)}), see {run / 'captions.stats.json'}"
        )


def print_next(settings: Settings, run: RunFolder, dataset: Dataset, captions: list[Caption]) -> None:
    """Print the command that makes identifiers of the captions."""
    from data_prep.identifiers import Settings as IdentifierSettings

    trained = {record.image_id for record in dataset.split("train")}
    num_captions = sum(caption.outcome in WRITTEN and caption.image_id in trained for caption in captions)
    config = [] if settings.config is None else ["--config", str(settings.config)]
    num_clusters = parse(IdentifierSettings, ["--run", str(run.path), *config], "identifiers").num_clusters
    print(f"next: {after_captions(run, dataset.folder, settings.config, num_captions, num_clusters)}")


if __name__ == "__main__":
    run_command(main, Settings, "caption")
