"""Give every image and every sentence of a dataset an identifier (paper, section 3.2).

Run as:

    python -m data_prep.identifiers --data DATA --run RUN
    python -m data_prep.identifiers --data DATA --run RUN --num-clusters 16 --encoder all-mpnet-base-v2
    python -m data_prep.identifiers --data DATA --run RUN --config recipes/configs/scenes.yaml
    python -m data_prep.identifiers --data DATA --run RUN --keyword-method keybert --diversity 0.5 --ngram-range [1,2]
    python -m data_prep.identifiers --data DATA --run RUN --keyword-order similarity
    python -m data_prep.identifiers --data DATA --run RUN --scheme numeric
    python -m data_prep.identifiers --data DATA --run RUN --global-id false

Other systems' identifiers, of AVG, CART, ComGTIR, GENIUS and GRACE:

    python -m data_prep.identifiers --data DATA --run RUN --scheme vokens --quantizer.kind rq-vae --quantizer.align 1
    python -m data_prep.identifiers --data DATA --run RUN --scheme coarse-fine --coarse 128 --collisions count
    python -m data_prep.identifiers --data DATA --run RUN --scheme hierarchical --branch 30 --leaf 30
    python -m data_prep.identifiers --data DATA --run RUN --scheme caption

Needs RUN/captions.jsonl, from `python -m data_prep.caption` or written by hand: one line per image,
{"image_id": "...", "caption": "..."}. Writes into RUN/identifiers:

    t2i.jsonl  i2t.jsonl     one identifier per item, all splits; a global_id of -1 means that there is none
    clusters.safetensors     the centroids, for items that come later
    cluster_words.json       the words that characterise each cluster
    mention_rates.jsonl      how often training sentences say each keyword of their image, for items that come later
    report.json  report.md   collisions, keywords, clusters, mentions, what was left out, what a perfect reader finds

Codes have tokens.json and quantizer.safetensors (a tree: tree.safetensors) in place of cluster words and mention rates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from data_prep.identifier_making import check_texts, make_identifiers, print_summary
from data_prep.identifier_options import about, check_options, recorded, with_keyword_order
from semcore.commands.arguments import run_command
from semcore.data.caption_files import image_of_sentences, read_captions, sentence_items
from semcore.data.dataset import load_dataset
from semcore.data.identifier_tokens import TokenInit
from semcore.data.run_folder import RunFolder
from semcore.identifiers.code_settings import Collisions, QuantizerSettings
from semcore.identifiers.mention_rates import Criterion
from semcore.identifiers.oracle import measure_oracle
from semcore.identifiers.schemes import SCHEMES
from semcore.identifiers.sentence_encoder import (
    DEFAULT_ENCODER,
    TOKENS_PER_BATCH,
    Encode,
    keeping,
    load_encoder,
    needs_download,
)
from semcore.identifiers.words import load_segmenter
from semcore.identifiers.write import write_identifiers
from semcore.models.next_steps import after_identifiers
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.typed_commands import data_command

SchemeName: TypeAlias = Literal[tuple(SCHEMES)]  # type: ignore[valid-type]


@dataclass
class Settings:
    """Which identifiers to make."""

    help_sections: ClassVar = {
        "scheme": "identifier", "encoder": "keyword", "seed": "cluster", "vectors": "code", "embeddings": "run-time",
    }  # fmt: skip

    run: Path
    """The run folder; it holds captions.jsonl."""
    data: Path | None = None
    """The dataset folder; by default the one earlier stages of the run worked on."""
    config: Path | None = None
    """A YAML file whose section `identifiers` is read before the flags."""
    scheme: SchemeName = "structured"  # paper, section 3.2; numeric is Table 3's "w/o SID"
    """What an identifier is: a cluster with keywords, or with an anonymous unique number; codes of a vector (vokens); a
    cluster with codes; a path in a tree of clusters; a running number (string); what is said of the item; or a token of
    its own (atomic)."""
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
    keyword_choice: Criterion = "similarity"  # paper, section 3.2.2
    """Which words become keywords: the most similar to the text, or of four times as many most similar words those
    that training sentences mention most often."""
    keyword_order: Criterion | None = None  # ours: better on scenes and on real sentences; paper, 3.2.2: similarity
    """Which keyword comes first: the most similar, or the one that training sentences mention most often, which is the
    default where there are any. A word's mention rate is the share of sentences that contain it, of the training images
    that have it as a keyword."""
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
    vectors: str = "caption"  # ours: no further model; AVG and GRACE take CLIP's, CART ImageBind's
    """What codes are made of: the caption's embedding, a CLIP or SigLIP checkpoint's, or "model", its visual tokens."""
    vectors_pool: Literal["mean", "flatten"] = "mean"  # ours
    """With vectors "model", the mean of an image's tokens, or all of them, reduced to 256 numbers."""
    coarse: int = 128  # CART, appendix C
    """With coarse-fine, how many clusters."""
    branch: int = 30  # GRACE's code
    """With hierarchical, how many parts a cluster is divided into."""
    leaf: int = 30  # GRACE's code
    """With hierarchical, how many items a cluster has that is not divided."""
    collisions: Collisions = "share"  # AVG and ComGTIR; CART counts
    """Items with the same codes share them, get a number ("count"), or the nearest free last code ("next")."""
    modality_token: bool = False  # GENIUS
    """Begin codes with a token for images or for sentences."""
    per_item: int = 1  # ours
    """Identifiers an item: of its nearest clusters, or nearest first codes; they are all trained, and their scores add
    up."""
    token_init: TokenInit = "words"  # paper, section 3.2.1; AVG starts at the codebook
    """Where the embeddings of codes start: at the words of their captions, at their vectors, or at noise."""
    quantizer: QuantizerSettings = field(default_factory=QuantizerSettings)
    embeddings: Path | None = None
    """A folder that keeps embeddings, for several runs over the same texts."""
    tokens_per_batch: int = TOKENS_PER_BATCH
    """The encoder embeds as many texts at once as make about so many tokens."""
    device: str | None = None  # ours
    """Where the encoder runs ("cpu", "cuda"); by default the fastest device there is."""
    limit: int | None = None
    """Use so many images only, shared out over the splits, for a quick trial."""

    def __post_init__(self) -> None:
        check_options(self)


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
        image_of_sentence = image_of_sentences(dataset, captions.items, settings.limit)
        settings = with_keyword_order(settings, captions.items, image_of_sentence)
        check_texts(settings, captions, image_of_sentence)
        inputs = {"captions.jsonl": sha256_of(path), "metadata.jsonl": dataset.fingerprint}
        places = {"encoder": content_of(settings.encoder)} if Path(settings.encoder).is_dir() else {}
        stage = run.open_stage("identifiers", recorded(settings), inputs, dataset.folder, places)
        if stage.finished:
            print(f"identifiers: already made, see {run / 'identifiers' / 'report.md'}")
            return
        run.set_config("identifiers", recorded(settings))
        sentences = sentence_items(dataset, settings.limit)
        identifiers = make_identifiers(
            settings, run, dataset, captions, sentences, image_of_sentence, lambda: announced_encoder(settings)
        )
        segmenter = load_segmenter(settings.segmenter) if settings.segmenter else None
        oracle = measure_oracle(identifiers, captions.items, sentences, image_of_sentence, segmenter)
        report = write_identifiers(run / "identifiers", identifiers, captions, about(settings), oracle)
        stage.finish(num_items=report["t2i"]["all"]["num_items"] + len(identifiers.i2t))
    print_summary(report)
    print(f"identifiers: see {run / 'identifiers' / 'report.md'}")
    print(f"next: {after_identifiers(run, dataset.folder, settings.config)}")


def announced_encoder(settings: Settings) -> Encode:
    """Return the encoder; that it has to be downloaded is said first."""
    if needs_download(settings.encoder):
        print(f"identifiers: downloading the sentence encoder {settings.encoder} from the Hugging Face hub")
    return encoder_of(settings)


def encoder_of(settings: Settings) -> Encode:
    """Return the function that embeds texts; the model is loaded only for texts without a stored embedding."""

    def load() -> Encode:
        return load_encoder(settings.encoder, settings.device)

    return load() if settings.embeddings is None else keeping(load, content_of(settings.encoder), settings.embeddings)


def content_of(encoder: str) -> str:
    """Return the fingerprint of an encoder: the hash of a folder's weights and settings, or a name."""
    return fingerprint(encoder) if Path(encoder).is_dir() else encoder


if __name__ == "__main__":
    run_command(main, Settings, "identifiers")
