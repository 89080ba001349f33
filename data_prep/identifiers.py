"""Give every image and every sentence of a dataset an identifier (paper, section 3.2).

Run as:

    python -m data_prep.identifiers --data DATA --run RUN
    python -m data_prep.identifiers --data DATA --run RUN --num-clusters 16 --encoder all-mpnet-base-v2
    python -m data_prep.identifiers --data DATA --run RUN --config recipes/configs/scenes.yaml
    python -m data_prep.identifiers --data DATA --run RUN --keyword-method keybert --diversity 0.5 --ngram-range [1,2]
    python -m data_prep.identifiers --data DATA --run RUN --keyword-order mention_rate
    python -m data_prep.identifiers --data DATA --run RUN --scheme numeric
    python -m data_prep.identifiers --data DATA --run RUN --global-id false

Needs RUN/captions.jsonl, from `python -m data_prep.caption` or written by hand: one line per image,
{"image_id": "...", "caption": "..."}. Writes into RUN/identifiers:

    t2i.jsonl  i2t.jsonl     one identifier per item, all splits; a global_id of -1 means that there is none
    clusters.safetensors     the centroids, for items that come later
    cluster_words.json       the words that characterise each cluster
    mention_rates.jsonl      how often training sentences say each keyword of their image, for items that come later
    report.json  report.md   collisions, keywords, clusters, mentions, what was left out
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from semcore.commands.arguments import require_minimum, resolved, run_command
from semcore.data.caption_files import Captions, image_of_sentences, read_captions, sentence_items
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.identifiers.ablation_schemes import with_numbers, without_global_ids
from semcore.identifiers.mention_rates import Criterion, require_train_sentences
from semcore.identifiers.sentence_encoder import (
    DEFAULT_ENCODER,
    TOKENS_PER_BATCH,
    Encode,
    keeping,
    load_encoder,
    needs_download,
)
from semcore.identifiers.structured import StructuredIdentifiers, build_structured_identifiers, fitted_on
from semcore.identifiers.words import load_segmenter
from semcore.identifiers.write import write_identifiers
from semcore.models.next_steps import after_identifiers
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.ranks import is_main_process
from semcore.runtime.typed_commands import data_command


@dataclass
class Settings:
    """Which identifiers to make."""

    help_sections: ClassVar = {
        "scheme": "identifier", "encoder": "keyword", "seed": "cluster", "embeddings": "run-time",
    }  # fmt: skip

    run: Path
    """The run folder; it holds captions.jsonl."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `identifiers` is read before the flags."""
    scheme: Literal["structured", "numeric"] = "structured"  # paper, section 3.2; numeric is Table 3's "w/o SID"
    """What stands behind the cluster: keywords, or an anonymous unique number."""
    global_id: bool = True  # paper, section 3.2; false is Table 3's "w/o global ID"
    """Begin identifiers with the cluster; false leaves it out and keeps the keywords as they are."""
    num_clusters: int = 128  # paper, section 4.4.1
    """How many clusters; each is one new token, the global id."""
    num_keywords: int = 4  # paper, section 4.4.1
    """How many keywords an item, at most; the lexical id."""
    num_cluster_words: int = 5  # paper, A.1
    """How many words by TF-IDF characterise a cluster, and are left out of its items' keywords."""
    deduplicate: bool = True  # paper, section 3.2.2; false is Table 3's "w/o deduplication"
    """Leave a cluster's words out of its items' keywords."""
    protocol: Literal["inductive", "transductive"] = "inductive"  # ours: nothing may be learnt about a test item
    """Fit clusters on the captions of the training split, or of all splits."""
    encoder: str = DEFAULT_ENCODER  # ours: KeyBERT's default; the paper says "BERT", section 3.2.2
    """The sentence encoder: a sentence-transformers name, or a folder."""
    keyword_method: Literal["fast", "keybert"] = "fast"  # ours: the same words, all texts at once
    """Keyword extraction: "fast" finds KeyBERT's words for all texts at once, "keybert" is the library itself."""
    diversity: float | None = None  # KeyBERT's default: similarity alone counts
    """With keybert, maximal marginal relevance: from 0, similarity alone, to 1, words unlike each other."""
    nr_candidates: int | None = None  # KeyBERT's default: similarity alone counts
    """With keybert, max-sum distance: of so many most similar words, those that are least similar to each other; all
    choices are compared, so that 10 with four keywords is quick and 20 with eight is not."""
    keyword_choice: Literal["similarity", "mention_rate"] = "similarity"  # paper, section 3.2.2
    """Which words become keywords: the most similar to the text, or of four times as many most similar words those
    that training sentences mention most often."""
    keyword_order: Literal["similarity", "mention_rate"] = "similarity"  # paper, section 3.2.2
    """Which keyword comes first: the most similar, or the one that training sentences mention most often. A word's
    mention rate is the share of sentences that contain it, of the training images that have it as a keyword."""
    ngram_range: tuple[int, int] = (1, 1)  # ours: KeyBERT's default; section 3.2.2 says "n-gram" without a length
    """Fewest and most words a keyword."""
    stop_words: Literal["english", "none"] = "english"  # ours: KeyBERT's default
    """Words that are never keywords."""
    segmenter: str | None = None
    """What finds the words of scripts without spaces, as MODULE:FUNCTION (jieba:lcut); pairs of letters by default."""
    min_with_keyword: float = 0.5  # ours: below it, the texts are not read as they are meant
    """The fraction of images and of sentences whose words have to be found; half of it has to keep one; 0 takes any."""
    seed: int = 0  # ours
    """Of k-means."""
    num_inits: int = 1  # ours: scikit-learn's default for k-means++
    """How often k-means begins anew; the best fit counts."""
    max_iterations: int = 300  # ours: scikit-learn's default
    """Iterations of one k-means fit, at most."""
    max_fit_items: int = 100_000  # ours: some 800 captions for each of 128 clusters; more change little
    """Above so many captions k-means is fitted on a random sample of so many."""
    embeddings: Path | None = None
    """A folder that keeps embeddings, for several runs over the same texts."""
    tokens_per_batch: int = TOKENS_PER_BATCH
    """The encoder embeds as many texts at once as make about so many tokens."""
    device: str | None = None  # ours
    """Where the encoder runs ("cpu", "cuda"); by default the fastest device there is."""
    limit: int | None = None
    """Use so many images only, shared out over the splits, for a quick trial."""

    def __post_init__(self) -> None:
        self._check_keyword_method()
        require_minimum(1, self, "num_clusters", "num_keywords", "num_cluster_words", "num_inits", "max_iterations")
        require_minimum(1, self, "tokens_per_batch", "limit")
        if self.max_fit_items < self.num_clusters:
            raise UserError(f"--max-fit-items must be --num-clusters or more, found {self.max_fit_items}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed must be from 0 to {2**32 - 1}, found {self.seed}")
        if self.segmenter is not None:
            load_segmenter(self.segmenter)
        if not 0 <= self.min_with_keyword <= 1:
            raise UserError(f"--min-with-keyword must be from 0 to 1, found {self.min_with_keyword}")
        fewest, most = self.ngram_range
        if not 1 <= fewest <= most:
            raise UserError(f"--ngram-range needs two numbers such as [1,2], the smaller first, found {[fewest, most]}")

    def _check_keyword_method(self) -> None:
        given = {"--diversity": self.diversity, "--nr-candidates": self.nr_candidates}
        own = [f"{flag} {value}" for flag, value in given.items() if value is not None]
        if own and self.keyword_choice == "mention_rate":
            raise UserError(
                f"{own[0]} and --keyword-choice mention_rate are two ways to choose keywords: leave one of them out"
            )
        if own and self.keyword_method != "keybert":
            raise UserError(
                f"{own[0]} is KeyBERT's own, which --keyword-method {self.keyword_method} does not know: "
                "add --keyword-method keybert, or leave it out"
            )
        if len(own) > 1:
            raise UserError(f"{' and '.join(own)} are two ways to choose keywords: leave one of them out")
        if self.diversity is not None and not 0 <= self.diversity <= 1:
            raise UserError(f"--diversity must be from 0 to 1, found {self.diversity}")
        if self.nr_candidates is not None and self.nr_candidates < self.num_keywords:
            raise UserError(
                f"--nr-candidates must be --num-keywords ({self.num_keywords}) or more, found {self.nr_candidates}"
            )


def main(settings: Settings) -> None:
    """Make the identifiers of a run, or say that they are made."""
    run = RunFolder(settings.run)
    dataset = load_dataset(settings.data or run.data_folder())
    path = run / "captions.jsonl"
    if not path.is_file():
        raise UserError(
            f"there is no {path}; make it with "
            f"`{data_command('caption', '--data', dataset.folder, '--run', run.path, '--model', 'CHECKPOINT')}`"
        )
    with run.lock():
        captions = read_captions(path, dataset, settings.limit)
        fitted_on(captions.items, settings.protocol, settings.num_clusters)
        if "mention_rate" in criteria(settings).values():
            require_train_sentences(captions.items, image_of_sentences(dataset, captions.items, settings.limit))
        inputs = {"captions.jsonl": sha256_of(path), "metadata.jsonl": dataset.fingerprint}
        places = {"encoder": content_of(settings.encoder)} if Path(settings.encoder).is_dir() else {}
        stage = run.open_stage("identifiers", resolved(settings), inputs, dataset.folder, places)
        if stage.finished:
            print(f"identifiers: already made, see {run / 'identifiers' / 'report.md'}")
            return
        run.set_config("identifiers", resolved(settings))
        identifiers = make_identifiers(settings, dataset, captions)
        report = write_identifiers(run / "identifiers", identifiers, captions, about(settings))
        stage.finish(num_items=report["t2i"]["all"]["num_items"] + len(identifiers.i2t))
    print_summary(report)
    print(f"identifiers: see {run / 'identifiers' / 'report.md'}")
    print(f"next: {after_identifiers(run, dataset.folder, settings.config)}")


def make_identifiers(settings: Settings, dataset: Dataset, captions: Captions) -> StructuredIdentifiers:
    """Give every captioned image and every sentence an identifier of the scheme asked for."""
    identifiers = make_structured_identifiers(settings, dataset, captions)
    refuse_few_keywords(identifiers, settings.min_with_keyword)
    if settings.scheme == "numeric":
        identifiers = with_numbers(identifiers, settings.seed)
    return identifiers if settings.global_id else without_global_ids(identifiers)


def make_structured_identifiers(settings: Settings, dataset: Dataset, captions: Captions) -> StructuredIdentifiers:
    """Load the encoder and give every captioned image and every sentence a cluster and keywords."""
    if needs_download(settings.encoder):
        print(f"identifiers: downloading the sentence encoder {settings.encoder} from the Hugging Face hub")
    return build_structured_identifiers(
        captions.items,
        sentence_items(dataset, settings.limit),
        encoder_of(settings),
        num_clusters=settings.num_clusters,
        num_keywords=settings.num_keywords,
        num_cluster_words=settings.num_cluster_words,
        deduplicate=settings.deduplicate,
        ngram_range=settings.ngram_range,
        stop_words=None if settings.stop_words == "none" else settings.stop_words,
        segmenter=load_segmenter(settings.segmenter) if settings.segmenter else None,
        protocol=settings.protocol,
        seed=settings.seed,
        num_inits=settings.num_inits,
        max_iterations=settings.max_iterations,
        max_fit_items=settings.max_fit_items,
        tokens_per_batch=settings.tokens_per_batch,
        keyword_method=settings.keyword_method,
        diversity=settings.diversity,
        nr_candidates=settings.nr_candidates,
        image_of_sentence=image_of_sentences(dataset, captions.items, settings.limit),
        **criteria(settings),
        progress=is_main_process(),
    )


def criteria(settings: Settings) -> dict[str, Criterion]:
    """Return how keywords are chosen and ordered; numbers in their place leave nothing to choose or order."""
    if settings.scheme == "numeric":
        return {"keyword_choice": "similarity", "keyword_order": "similarity"}
    return {"keyword_choice": settings.keyword_choice, "keyword_order": settings.keyword_order}


def refuse_few_keywords(identifiers: StructuredIdentifiers, least: float) -> None:
    """Check that enough images, and enough sentences, have a keyword.

    Raises:
        UserError: words were found in a smaller fraction than `least`, or fewer than half of that fraction keep a
            word that is not their cluster's.
    """
    num_images, num_sentences = identifiers.num_with_word
    for rows, found, items in (
        (identifiers.t2i, num_images, "images"),
        (identifiers.i2t, num_sentences, "sentences"),
    ):
        without = [row["item_id"] for row in rows if not row["lexical_id"]]
        kept = len(rows) - len(without)
        if found < least * len(rows) or kept < least / 2 * len(rows):
            raise UserError(
                f"only {kept} of {len(rows)} {items} get a keyword (words were found in {found}; {without[0]!r} "
                "is one without): look at captions.jsonl, choose --num-cluster-words, --stop-words or --segmenter, "
                "or take them as they are with --min-with-keyword 0"
            )


def encoder_of(settings: Settings) -> Encode:
    """Return the function that embeds texts; the model is loaded only for texts without a stored embedding."""

    def load() -> Encode:
        return load_encoder(settings.encoder, settings.device)

    return load() if settings.embeddings is None else keeping(load, content_of(settings.encoder), settings.embeddings)


def content_of(encoder: str) -> str:
    """Return the fingerprint of an encoder: the hash of a folder's weights and settings, or a name."""
    return fingerprint(encoder) if Path(encoder).is_dir() else encoder


def about(settings: Settings) -> dict[str, Any]:
    """Return what the report says about how the identifiers were made."""
    names = ("protocol", "encoder", "seed", "scheme", "global_id", "num_keywords", "deduplicate")
    of_keywords = ("keyword_method", "diversity", "nr_candidates", "ngram_range")
    return {name: getattr(settings, name) for name in (*names, *of_keywords)} | criteria(settings)


def print_summary(report: dict[str, Any]) -> None:
    """Print one line per direction, and what was left out."""
    captions = report["captions"]
    if captions["missing"]:
        print(f"identifiers: {len(captions['missing'])} of {captions['num_images']} images have no caption and so none")
    if captions["num_unknown"]:
        print(f"identifiers: {captions['num_unknown']} captions belong to no image of the dataset")
    for direction in Direction:
        if figures := report[direction].get("all"):
            items = direction.item_kind
            print(
                f"identifiers: {figures['num_items']} {items}, {figures['num_identifiers']} identifiers, "
                f"{figures['num_shared_items']} {items} share theirs with another, "
                f"{figures['num_without_keyword']} have no keyword"
            )


if __name__ == "__main__":
    run_command(main, Settings, "identifiers")
