"""Constrained generation: our beam search against Hugging Face `generate` with nested dictionaries.

    python -m benchmarks.generation --json benchmarks/results/generation-cpu.json
    python -m benchmarks.generation --device cuda --json benchmarks/results/generation-cuda.json
    python -m benchmarks.generation --quick

Same process, same weights, same identifiers; the runs alternate and the median counts. Before anything is timed, our
list is checked in float32, for two queries at most: at no rank a lower score than the peer's. In bfloat16 both sides
round, and beams that are nearly equal part; how far apart their best scores are is said, with the tolerance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks import random_models
from benchmarks.corpora import END_TOKEN, VOCABULARY, synthetic_corpus
from benchmarks.peers.dict_trie import DictTrie
from benchmarks.peers.faiss import dense_scan_row
from benchmarks.report import Row, lower_is_better, not_run, publish
from benchmarks.roofline import Decoder, Roofline, least_search_s, measure_roofline, of_roofline
from benchmarks.timing import interleaved_medians
from semcore.commands.arguments import run_command
from semcore.decoding import IdentifierIndex, SearchResult, constrained_beam_search, generate_with_transformers
from semcore.decoding.scoring import Normalization
from semcore.runtime.errors import UserError
from semcore.runtime.files import atomic_text
from semcore.runtime.markdown_tables import markdown_table

TOLERANCE = 1e-3
"""Largest shortfall of a score below the peer's at any rank in float32, for rounding."""
ROUNDED_TOLERANCE = 0.5
"""Largest mean shortfall of the best scores in bfloat16, which the rows speak of; random weights make near ties."""
QUERIES_CHECKED = 2
NORMALIZATIONS: tuple[Normalization, ...] = ("vocabulary", "identifiers")
OPERATIONS_SHOWN = 6
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class Settings:
    """What to measure."""

    json: Path | None = None
    """File to save the rows in."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the models run."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Their precision while they are timed: "auto" is bfloat16 on cuda, else float32."""
    only: Literal["all", "tiny-text", "1b-text", "tiny-image"] = "all"
    """Measure one model only."""
    num_identifiers: int = 100_000
    """Size of the corpus."""
    num_beams: int = 20
    """Width of the beam."""
    repeats: int = 5
    """Runs of each side that count."""
    profile: Path | None = None
    """File to save what takes most of our searches in, as markdown, by torch's profiler."""
    quick: bool = False
    """A few thousand identifiers, one run: to see that it works."""

    @property
    def precision(self) -> torch.dtype:
        """Return the models' precision."""
        automatic = "bfloat16" if self.device == "cuda" else "float32"
        return DTYPES[automatic if self.dtype == "auto" else self.dtype]

    def __post_init__(self) -> None:
        if self.profile is not None and self.device != "cpu":
            raise UserError("--profile says where a processor's seconds go; leave --device cuda out")
        for name in ("num_identifiers", "num_beams", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} takes a whole number of at least 1")


@dataclass(frozen=True)
class Setting:
    """One row's model and queries."""

    name: str
    model: Any
    inputs: dict[str, torch.Tensor]


def main(settings: Settings) -> None:
    """Measure, print and save."""
    if settings.quick:
        settings.num_identifiers, settings.repeats = 3_000, 1
    remarks: dict[str, Any] = {}
    if settings.device == "cuda" and not torch.cuda.is_available():
        rows = [not_run(name, "no GPU") for name in ("tiny-text", "1b-text", "tiny-image")]
    else:
        corpus = synthetic_corpus(settings.num_identifiers)
        index = IdentifierIndex.from_sequences((corpus.tokens, corpus.offsets), corpus.item_ids).to(settings.device)
        trie = DictTrie(corpus.sequences(), corpus.item_ids)
        roofline = measure_roofline(settings.device, settings.precision)
        mean_length = len(corpus.tokens) / len(corpus.item_ids)
        rows, profiles = list[Row](), list[list[str]]()
        for setting in _settings(settings):
            least_s = partial(_least_s, roofline, setting, settings, mean_length)
            rows += compare(setting, index, trie, settings, least_s)
            if settings.profile is not None:
                profiles += profile(setting, index, settings.num_beams)
        if settings.profile is not None:
            with atomic_text(settings.profile) as handle:
                handle.write(markdown_table(["search", "operation", "calls", "% of its time"], profiles, 2) + "\n")
        num_queries = 1 if settings.device == "cuda" else 2
        ours = next((row.ours for row in rows if row.ours is not None), 0.0)
        rows.append(dense_scan_row(settings.num_identifiers, num_queries, ours, settings.repeats))
        remarks = {"roofline": roofline.as_record()}
    publish(rows, settings.json, **remarks)


def _least_s(roofline: Roofline, setting: Setting, settings: Settings, mean_length: float, normalization: str) -> float:
    """Return the least seconds of a search."""
    num_queries, prompt_tokens = setting.inputs["input_ids"].shape
    return least_search_s(
        roofline, Decoder.of(setting.model), num_queries=num_queries, prompt_tokens=prompt_tokens,
        num_beams=settings.num_beams, mean_length=mean_length, whole_vocabulary=normalization == "vocabulary",
    )  # fmt: skip


def _settings(settings: Settings) -> Iterator[Setting]:
    """Yield the settings to measure, one model in memory at a time."""
    device, dtype = settings.device, settings.precision
    text_batches, image_batches = ([1, 64], [32]) if device == "cuda" else ([2], [2])
    one_b = random_models.TINY if settings.quick else random_models.ONE_B
    if settings.only in ("all", "tiny-text"):
        model = random_models.text_model(random_models.TINY, VOCABULARY, device, dtype)
        for size in text_batches:
            yield Setting(f"tiny-text x{size}", model, random_models.text_prompts(size, device))
    if settings.only in ("all", "1b-text"):
        model = random_models.text_model(one_b, VOCABULARY, device, dtype)
        for size in text_batches:
            yield Setting(f"1b-text x{size}", model, random_models.text_prompts(size, device))
    if settings.only in ("all", "tiny-image"):
        model = random_models.image_model(random_models.TINY, VOCABULARY, device, dtype)
        for size in image_batches:
            yield Setting(f"tiny-image x{size}", model, random_models.image_prompts(size, device, dtype))


def compare(
    setting: Setting, index: IdentifierIndex, trie: DictTrie, settings: Settings, least_s: Callable[[str], float]
) -> list[Row]:
    """Check the lists, then time both normalisations against `generate`; `least_s` is the roofline of one."""
    model, inputs, num_beams = setting.model, setting.inputs, settings.num_beams
    note = f"{settings.num_identifiers} identifiers, {check_parity(setting, index, num_beams)}"
    prompt_length = inputs["input_ids"].shape[1]

    def peer() -> None:
        model.generate(
            **inputs,
            max_new_tokens=index.max_length,
            num_beams=num_beams,
            num_return_sequences=num_beams,
            do_sample=False,
            length_penalty=0.0,
            early_stopping="never",
            prefix_allowed_tokens_fn=trie.callback(prompt_length, END_TOKEN),
            eos_token_id=END_TOKEN,
            pad_token_id=END_TOKEN,
        )

    sides = {
        "vocabulary": lambda: constrained_beam_search(model, inputs, index, num_beams, "vocabulary"),
        "identifiers": lambda: constrained_beam_search(model, inputs, index, num_beams, "identifiers"),
        "peer": peer,
    }
    seconds = interleaved_medians(sides, settings.repeats)
    return [
        lower_is_better(
            f"{setting.name}, {normalization}", seconds[normalization], seconds["peer"], "s",
            f"{note}; {of_roofline(least_s(normalization), seconds[normalization])}",
        )
        for normalization in NORMALIZATIONS
    ]  # fmt: skip


def profile(setting: Setting, index: IdentifierIndex, num_beams: int) -> list[list[str]]:
    """Return the operations that take most of a search of each normalisation, their own time alone."""
    lines = []
    for normalization in NORMALIZATIONS:
        search = partial(constrained_beam_search, setting.model, setting.inputs, index, num_beams, normalization)
        search()  # what a first search prepares
        name = f"{setting.name}, {normalization}"
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            search()
        events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
        total = sum(event.self_cpu_time_total for event in events)
        lines += [
            [name, event.key, str(event.count), f"{100 * event.self_cpu_time_total / total:.1f}"]
            for event in events[:OPERATIONS_SHOWN]
        ]
    return lines


def check_parity(setting: Setting, index: IdentifierIndex, num_beams: int) -> str:
    """Refuse to time a search with lower scores in float32; return a sentence on how similar the lists are."""
    few = {name: values[:QUERIES_CHECKED] for name, values in setting.inputs.items()}
    exact = setting.model if setting.model.dtype == torch.float32 else copy.deepcopy(setting.model).float()
    floats = {name: values.float() if values.is_floating_point() else values for name, values in few.items()}
    ours = constrained_beam_search(exact, floats, index, num_beams)
    theirs = generate_with_transformers(exact, floats, index, num_beams)
    behind = float((theirs.scores - ours.scores).nan_to_num(neginf=0.0).max())
    if behind > TOLERANCE:
        raise RuntimeError(f"{setting.name}: our list is worse by {behind:.4f} at some rank in float32")
    said = f"beam {num_beams}; float32: lists {_alike(ours, theirs):.0f} % alike, none worse"
    if exact is setting.model:
        return said
    ours, theirs = (
        search(setting.model, few, index, num_beams) for search in (constrained_beam_search, generate_with_transformers)
    )
    apart = float((theirs.scores[:, 0] - ours.scores[:, 0]).mean())
    verdict = "within" if apart <= ROUNDED_TOLERANCE else "BEYOND"
    return (
        f"{said}; bfloat16: lists {_alike(ours, theirs):.0f} % alike, best scores lower by {apart:.2f} on average, "
        f"{verdict} the tolerance of {ROUNDED_TOLERANCE}"
    )


def _alike(ours: SearchResult, theirs: SearchResult) -> float:
    """Return the percentage of their sequences that are ours too."""
    pairs = list(zip(ours.sequences, theirs.sequences, strict=True))
    return 100 * sum(len(set(mine) & set(other)) for mine, other in pairs) / sum(len(other) for _, other in pairs)


if __name__ == "__main__":
    run_command(main, Settings)
