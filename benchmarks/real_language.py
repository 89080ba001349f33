r"""Identifiers on real sentences: text -> image retrieval on captions, with a real language model.

    python -m benchmarks.real_language --captions ../shared/data/dataset_coco_val2017_captions.json.gz \
        --out runs/language --json benchmarks/results/real_language.json --table benchmarks/results/real_language.md

One sentence of each image is its caption, the others are the queries; there are no pictures (`language_data`). The
model is Gemma 3 270M inside an InternVL (`language_model`), fine-tuned by `recipes/train_identifier.py` with LoRA, once
for each variant of the identifiers; taking the prior off and the width of the beam need no training. Every variant is
held against the paper's on the same queries. `--plan` says what there is, `--variants [paper,no_cluster]` does a part;
what is done is not done again, a killed run goes on, and the results are written after every variant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from benchmarks.language_data import make_dataset
from benchmarks.language_model import write_gemma_internvl
from benchmarks.language_results import write_results
from benchmarks.language_search import Found, LanguageSearch, corrected, first_ranks, weight_on
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.run_folder import RunFolder
from semcore.evaluation.dense_baselines import nearest
from semcore.identifiers.sentence_encoder import DEFAULT_ENCODER
from semcore.retrieval.dense import caption_encoder
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text, read_json, read_jsonl, write_json
from semcore.runtime.packaged_files import resource_folder

PROMPT = "{{ query }}\n"
"""What the model is asked with: the sentence alone; each further word would cost training time."""
SPOKEN = {"keyword_choice": "mention_rate", "keyword_order": "mention_rate", "deduplicate": "false"}
TRAINING = {
    "directions": "[t2i]", "row_tokens": 192, "held_out.sentences_per_image": 0, "held_out.image_fraction": 0,
    "lora.rank": 16, "lora.dropout": 0, "lora.target_modules": "[q_proj,v_proj,o_proj,down_proj]",
    "training.learning_rate": 1e-3, "training.batch_size": 2, "training.micro_batch_size": 2,
    "training.gradient_checkpointing": "false", "training.save_steps": 20,
}  # fmt: skip
"""Two rows of some nine examples a step; LoRA where it costs least."""


class Variant(NamedTuple):
    """Identifiers to compare: a label, and what `data_prep.identifiers` is given beside the common settings."""

    label: str
    identifiers: dict[str, Any]


COMMON = {"num_clusters": 64, "num_keywords": 4, "keyword_order": "similarity"}
VARIANTS = {
    "paper": Variant("the paper's: similar words, most similar first, without the cluster's", {}),
    "spoken": Variant("words people say, those first, the cluster's too", SPOKEN),
    "spoken_no_cluster": Variant("the same, no cluster", {**SPOKEN, "global_id": "false"}),
    "order": Variant("the paper's words, those that people say first", {"keyword_order": "mention_rate"}),
    "no_deduplication": Variant("the paper's, the cluster's words too", {"deduplicate": "false"}),
    "choice": Variant("words people say, those first, without the cluster's", {**SPOKEN, "deduplicate": "true"}),
    "no_cluster": Variant("the paper's words, no cluster", {"global_id": "false"}),
    "spoken_16_clusters": Variant("words people say, 16 clusters", {**SPOKEN, "num_clusters": 16}),
    "spoken_128_clusters": Variant("words people say, 128 clusters", {**SPOKEN, "num_clusters": 128}),
    "spoken_2_keywords": Variant("words people say, 2 keywords", {**SPOKEN, "num_keywords": 2}),
    "spoken_8_keywords": Variant("words people say, 8 keywords", {**SPOKEN, "num_keywords": 8}),
    "spoken_two": Variant("words people say, two identifiers an item", {**SPOKEN, "per_item": 2}),
}
"""Those first that say most."""


@dataclass
class Settings:
    """What to run."""

    help_sections: ClassVar = {"num_train": "size"}

    captions: Path
    """A caption file in the Karpathy layout, .json or .json.gz."""
    out: Path
    """Folder of the base checkpoint, the dataset and a run a variant."""
    variants: list[str] | None = None
    """The variants to run, in this order; all by default, [] writes what is done already."""
    plan: bool = False
    """Say what there is and what is done, and run nothing."""
    num_train: int = 800
    """Training images."""
    num_train_queries: int = 2
    """Sentences that each of them is asked for with."""
    num_val: int = 150
    """Images of val, and queries: the prior's weight is fitted there."""
    num_test: int = 500
    """Images that are searched, and queries."""
    num_beams: int = 20
    """Width of the beam."""
    other_beams: list[int] | None = None
    """Other widths to search the first and the best variant with, [10,50] say."""
    num_prior_queries: int = 32
    """Training queries that the prior of an identifier is averaged over."""
    json: Path | None = None
    """File to save the results in."""
    table: Path | None = None
    """File to write them into as tables, in markdown."""

    def __post_init__(self) -> None:
        require_minimum(
            1, self, "num_train", "num_train_queries", "num_val", "num_test", "num_beams", "num_prior_queries"
        )
        if unknown := [name for name in self.variants or [] if name not in VARIANTS]:
            raise UserError(f"--variants {unknown[0]} is none of {', '.join(VARIANTS)}")


def main(settings: Settings) -> None:
    """Run the variants that are not done, and write the results after each."""
    chosen = list(VARIANTS) if settings.variants is None else settings.variants
    out = settings.out.absolute()
    if settings.plan:
        return print_plan(out, chosen)
    prepare(settings, out)
    for name in chosen:
        make_identifiers(name, out)
        train(name, out)
        measure(settings, load_dataset(out / "data"), out / "runs" / name)
        publish(settings, out)
    if not chosen:
        publish(settings, out)
    return None


def print_plan(out: Path, chosen: list[str]) -> None:
    """Print every variant, whether it is done, and how its identifiers are made."""
    for name in chosen:
        done = "done" if (out / "runs" / name / "ranks.json").exists() else "to do"
        flags = " ".join(
            f"--{flag.replace('_', '-')} {value}" for flag, value in {**COMMON, **VARIANTS[name].identifiers}.items()
        )
        sys.stdout.write(f"{name:20} {done:6} {VARIANTS[name].label}: {flags}\n")


def prepare(settings: Settings, out: Path) -> None:
    """Make the base checkpoint, the dataset, and a folder of prompts that asks with the sentence alone."""
    write_gemma_internvl(out / "gemma3-270m-internvl")
    sizes = {"train": settings.num_train, "val": settings.num_val, "test": settings.num_test}
    make_dataset(settings.captions, out, sizes, settings.num_train_queries, seed=0)
    if not (out / "prompts").exists():
        shutil.copytree(resource_folder("prompts"), out / "prompts")
        with atomic_text(out / "prompts" / "identify_t2i.jinja") as handle:
            handle.write(PROMPT)


def make_identifiers(name: str, out: Path) -> None:
    """Make a variant's identifiers as a user does; what is done says so and is skipped."""
    run = out / "runs" / name
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "captions.jsonl").exists():
        shutil.copy(out / "captions.jsonl", run)
    flags = {**COMMON, **VARIANTS[name].identifiers, "embeddings": "embeddings"}
    _start(out, ["-m", "data_prep.identifiers"], {"data": "data", "run": f"runs/{name}", **flags})


def train(name: str, out: Path) -> None:
    """Train on a variant's identifiers, likewise."""
    recipe = str(resource_folder("recipes").absolute() / "train_identifier.py")
    places = {"data": "data", "run": f"runs/{name}", "model.base": "gemma3-270m-internvl"}
    _start(out, [recipe], {**places, **TRAINING})


def _start(folder: Path, program: list[str], flags: dict[str, Any]) -> None:
    """Start a command in the folder whose prompts it shall read."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, *program, *_words(flags)], check=True, cwd=folder, env=environment)


def _words(flags: dict[str, Any]) -> list[str]:
    """Return settings as they are typed."""
    return [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def measure(settings: Settings, dataset: Dataset, run: Path) -> None:
    """Search val and test, fit the prior's weight on val, and write RUN/ranks.json: ranking -> query -> rank."""
    sizes = {"val": settings.num_val, "test": settings.num_test}
    search = LanguageSearch(RunFolder(run), dataset, sizes, prompts_folder=run.parent.parent / "prompts")
    found = {split: search.find(split, settings.num_beams) for split in sizes}
    priors = {split: search.priors(split, settings.num_prior_queries) for split in sizes}
    right = {split: search.view(split).queries.relevant for split in sizes}
    weight = weight_on(found["val"], right["val"], priors["val"])
    rankings = {f"{settings.num_beams} beams": found["test"]}
    for num_beams in settings.other_beams or []:
        rankings[f"{num_beams} beams"] = search.find("test", num_beams)
    less_prior = {f"{name}, prior off": _corrected(own, priors["test"], weight) for name, own in rankings.items()}
    ranks = {name: first_ranks(own, right["test"]) for name, own in {**rankings, **less_prior}.items()}
    about = {
        "prior_weight": round(weight, 2),
        "prior_sd": round(float(np.std(list(priors["test"].values()))), 2),
        "seconds_a_query": search.seconds(),
    }
    write_json(run / "ranks.json", {"queries": sorted(right["test"]), "ranks": ranks, **about})


def _corrected(found: dict[str, Found], priors: dict[str, float], weight: float) -> dict[str, Found]:
    return {query: corrected(own, priors, weight) for query, own in found.items()}


def publish(settings: Settings, out: Path) -> None:
    """Write the results of all variants that are done."""
    if settings.json is None:
        return
    runs = {name: out / "runs" / name for name in VARIANTS}
    done = {name: read_json(run / "ranks.json") for name, run in runs.items() if (run / "ranks.json").exists()}
    made = {name: run for name, run in runs.items() if (run / "identifiers" / "report.json").exists()}
    dataset = load_dataset(out / "data")
    search = LanguageSearch(RunFolder(next(iter(made.values()))), dataset, {"test": settings.num_test})
    write_results(
        settings.json, settings.table, {name: VARIANTS[name].label for name in VARIANTS}, done,
        runs=made, relevant=search.view("test").queries.relevant,
        dense=dense_ranks(out, search),
        sizes={"train": settings.num_train, "train_queries": settings.num_train * settings.num_train_queries,
               "val": settings.num_val, "test": settings.num_test, "prior_queries": settings.num_prior_queries},
    )  # fmt: skip


def dense_ranks(out: Path, search: LanguageSearch) -> list[int | None]:
    """Return the ranks that the sentence encoder alone reaches: queries against captions, by cosine."""
    path = out / "dense.json"
    if not path.exists():
        view = search.view("test")
        captions = {row["image_id"]: row["caption"] for row in read_jsonl(out / "captions.jsonl")}
        baseline = caption_encoder(captions, DEFAULT_ENCODER)
        items, queries = list(view.items), list(view.queries.contents)
        texts = [view.queries.contents[query] for query in queries]
        ranked = nearest(baseline.texts(texts), baseline.images(items), items, len(items))
        found = {query: [(item, 0.0) for item in row] for query, row in zip(queries, ranked, strict=True)}
        write_json(path, {"ranks": first_ranks(found, view.queries.relevant)})
    ranks: list[int | None] = read_json(path)["ranks"]
    return ranks


if __name__ == "__main__":
    run_command(main, Settings)
