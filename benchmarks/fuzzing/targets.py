"""Readers of users' inputs, each with its damaged inputs and a function that reads them.

A target is right when it ends, with a result or a `UserError`; any other exception is a failure, and so is one that
takes the processor longer than `MOST_SECONDS` or more than `MOST_BYTES` of memory on top.
"""

from __future__ import annotations

import io
import json
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from benchmarks.fuzzing import mutations
from semcore.runtime.errors import UserError

MOST_SECONDS = 10.0
MOST_BYTES = 1024**3


class Target(NamedTuple):
    """A reader.

    Attributes:
        name: as it is chosen by.
        inputs: a function that returns the strategy of its inputs.
        read: reads one input, in an empty folder.
    """

    name: str
    inputs: Callable[[], st.SearchStrategy[Any]]
    read: Callable[[Any, Path], None]


class TooSlow(Exception):
    """A target that took too long."""


class Broken(Exception):
    """A target that ended with a result that is wrong."""


def all_targets() -> dict[str, Target]:
    """Return name -> target."""
    targets = [
        Target("from_karpathy", lambda: mutations.damaged_json(_KARPATHY), _read_karpathy),
        Target("from_karpathy, COCO's file", lambda: mutations.damaged_json(_COCO), _read_karpathy),
        Target("from_imagefolder, metadata.jsonl", lambda: _json_lines(_FOLDER), _folder("metadata.jsonl")),
        Target("from_imagefolder, metadata.csv", lambda: _tables(_CSV), _folder("metadata.csv")),
        Target("from_imagefolder, text files", lambda: mutations.damaged_bytes(_TEXT), _folder("a.txt")),
        Target("from_csv", lambda: _tables(_CSV), _read_csv("table.csv")),
        Target("from_csv, .token", lambda: mutations.damaged_bytes(_TOKENS), _read_csv("table.token")),
        Target("dataset folder", lambda: _json_lines(_DATASET), _read_dataset("metadata.jsonl")),
        Target("dataset.json", lambda: mutations.damaged_json(_ABOUT), _read_dataset("dataset.json")),
        Target("captions.jsonl", lambda: _json_lines(_CAPTIONS), _read_captions),
        Target("identifiers", lambda: _json_lines(_IDENTIFIERS), _read_identifiers),
        Target("corpus changes", lambda: _json_lines(_CHANGES), _read_changes),
        Target("index file", lambda: mutations.damaged_arrays(_index_file()), _read_index),
        Target("feature shard, tensors", lambda: mutations.damaged_arrays(_shard()[0]), _read_shard("s.safetensors")),
        Target("feature shard, rows", lambda: mutations.damaged_json(json.loads(_shard()[1])), _read_shard("s.json")),
        Target("config", lambda: mutations.damaged_yaml(_CONFIG), _read_config),
        Target("study", lambda: mutations.damaged_yaml(_STUDY), _read_study),
        Target("prompts", mutations.damaged_templates, _read_prompt),
        Target("sentences", lambda: mutations.hostile_texts(_special_tokens()), _read_sentence),
    ]  # fmt: skip
    return {target.name: target for target in targets}


def attempt(target: Target, value: Any) -> None:
    """Let a target read one input, in a folder of its own.

    Raises:
        Exception: whatever is no `UserError`; `TooSlow`, `MemoryError` and `Broken` among it.
    """
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    quiet = io.StringIO()
    try:
        with bounded(), suppress(UserError), redirect_stdout(quiet), redirect_stderr(quiet):
            target.read(value, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def bounded() -> Iterator[None]:
    """Bound the processor's time, which no other program delays, and memory; in the main thread alone."""

    def stop(*_: Any) -> None:
        raise TooSlow(f"more than {MOST_SECONDS:.0f} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


_NAMES = ("a", "b", "c")
_KARPATHY = {
    "dataset": "d",
    "images": [
        {
            "filename": f"{name}.png", "filepath": "", "split": split,
            "sentences": [{"raw": "a ring", "sentid": n, "tokens": ["a"]}, {"raw": "ü"}],
        }
        for n, (name, split) in enumerate(zip(_NAMES, ("train", "val", "test"), strict=True))
    ],
}  # fmt: skip
_COCO = {
    "info": {}, "licenses": [{"id": 1}],
    "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(_NAMES)],
    "annotations": [{"id": 9 - n, "image_id": n, "caption": "a ring"} for n in range(3)],
}  # fmt: skip
_FOLDER = [{"file_name": f"{name}.png", "text": ["a ring", "a red ring"]} for name in _NAMES]
_CSV = 'file_name,sentence,split\na.png,"a ring, ""red""",train\nb.png,a circle,val\nc.png,"[\'a\', \'b\']",test\n'
_TEXT = b"a red circle\na ring\n"
_ABOUT = {"name": "d", "counts": {"train": 1}}
_TOKENS = b"a.png#0\ta ring\na.png#1\ta red ring\nb.png#0\ta circle\nc.png#0\ta star\n"
_DATASET = [
    {
        "file_name": f"images/{name}.png", "image_id": name, "split": "train", "source_file": "x",
        "sentences": [{"sentence_id": f"{name}-0", "text": "a ring"}],
    }
    for name in _NAMES
]  # fmt: skip
_CAPTIONS = [{"image_id": name, "caption": "a red ring"} for name in _NAMES]
_IDENTIFIERS = [
    {
        "item_id": name, "split": "train", "global_id": 1, "lexical_id": ["red", "ring"],
        "identifier": "<|cluster_1|>red ring", "codes": [1, 2], "more": ["x"],
    }
    for name in _NAMES
]  # fmt: skip
_ADDED = {
    "image_id": "n", "file_name": "n.png", "sha256": "0", "source_file": "n", "caption": "a ring",
    "row": {"item_id": "n", "split": "added", "global_id": 0, "lexical_id": ["a"], "identifier": "a"},
    "sentences": [{"sentence_id": "n-0", "text": "a ring"}],
    "sentence_rows": [{"item_id": "n-0", "split": "added", "global_id": 0, "lexical_id": ["a"], "identifier": "a"}],
}  # fmt: skip
_CHANGES = [{"time": 1.5, "clusters": "", "added": [_ADDED]}, {"time": 2.0, "clusters": "", "removed": ["n-0"]}, {}]
_CONFIG = """# settings
identifiers:
  num_clusters: 4
  keyword_order: mention_rate
  ngram_range: [1, 2]
  deduplicate: yes
  diversity: 0.5
train_identifier:
  row_tokens: 96
  training:
    learning_rate: 5.0e-4
    num_epochs: 3
    bf16: "no"
evaluate:
  prior_weight: fit
  no_match_refused: 0.05
"""
_STUDY = """title: A study
base: base.yaml
seeds: [0, 1]
scenes: {train: 16, val: 4, test: 6}
stages: [caption, identifiers, train_identifier, evaluate]
settings:
  evaluate: {verifier: likelihood}
reference: full
variants:
  - {name: full, label: all, paper: {R@1: 9}}
  - {name: beams2, evaluate: {num_beams: 2}}
tables:
  - {title: beams, variants: [full, beams2], axis: evaluate.num_beams}
"""


def _json_lines(rows: list[Any]) -> st.SearchStrategy[bytes]:
    return mutations.damaged_json(rows, lines=True)


def _tables(text: str) -> st.SearchStrategy[bytes]:
    """Return damaged tables: cells replaced, then bytes."""
    cells = [
        '"',
        '"a',
        'a"b',
        "",
        ",",
        ",,,",
        "\t",
        "nan",
        "['a', 'b'",
        "[" * 500,
        "x" * 5_000,
        "\0",
        "{'raw': 'a'}",
        '"""',
        "../x.png",
        "='cmd'",
        "\r",
    ]
    places = [n for n, letter in enumerate(text) if letter in ',"\n']

    def put(place: int, cell: str) -> bytes:
        return (text[:place] + cell + text[place:]).encode()

    return st.builds(put, st.sampled_from(places), st.sampled_from(cells)).flatmap(mutations.damaged_bytes)


@cache
def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()


def _pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in _NAMES:
        (folder / f"{name}.png").write_bytes(_picture())
    return folder


def _read_karpathy(content: bytes, folder: Path) -> None:
    from data_prep import from_karpathy

    (folder / "c.json").write_bytes(content)
    from_karpathy.main(
        from_karpathy.Settings(
            json=folder / "c.json", images=_pictures(folder / "p"), out=folder / "out", skip_missing=True
        )
    )
    _check_dataset(folder / "out")


def _folder(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        from data_prep import from_imagefolder

        (_pictures(folder / "p") / name).write_bytes(content)
        from_imagefolder.main(from_imagefolder.Settings(images=folder / "p", out=folder / "out", skip_missing=True))
        _check_dataset(folder / "out")

    return read


def _read_csv(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        from data_prep import from_csv

        (folder / name).write_bytes(content)
        from_csv.main(
            from_csv.Settings(csv=folder / name, images=_pictures(folder / "p"), out=folder / "out", skip_missing=True)
        )
        _check_dataset(folder / "out")

    return read


def _check_dataset(folder: Path) -> None:
    """Refuse an import whose dataset cannot be read."""
    from semcore.data.dataset import load_dataset

    try:
        load_dataset(folder)
    except UserError as error:
        raise Broken(f"what was imported is refused: {error}") from None


def _read_dataset(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        from semcore.data.dataset import load_dataset

        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _DATASET))
        (folder / name).write_bytes(content)
        load_dataset(folder)

    return read


def _read_captions(content: bytes, folder: Path) -> None:
    from semcore.data.caption_files import read_captions
    from semcore.data.dataset import load_dataset

    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _DATASET))
    (folder / "captions.jsonl").write_bytes(content)
    read_captions(folder / "captions.jsonl", load_dataset(folder))


def _read_identifiers(content: bytes, folder: Path) -> None:
    from semcore.data.identifier_files import all_identifiers, identifier_parts, read_identifiers

    (folder / "t2i.jsonl").write_bytes(content)
    for row in read_identifiers(folder, "t2i"):
        "".join([*all_identifiers(row), *identifier_parts(row), row["item_id"], row["split"]])


def _read_changes(content: bytes, folder: Path) -> None:
    from semcore.data.corpus_changes import read_changes
    from semcore.data.run_folder import RunFolder

    (folder / "corpus").mkdir()
    (folder / "corpus" / "changes.jsonl").write_bytes(content + b"\n")
    changes = read_changes(RunFolder(folder))
    for image in changes.added.values():
        "".join(
            [
                image.image_id,
                image.file_name,
                image.caption,
                image.row["identifier"],
                *(own.text for own in image.sentences),
            ]
        )
    sum(changes.dropped.values())


@cache
def _index_file() -> bytes:
    from semcore.decoding import IdentifierIndex

    sequences = [[5, 7, 9, 1], [5, 7, 8, 1], [5, 8, 1], [5, 8, 1], [6, 9, 9, 9, 1], [4, 1]]
    with tempfile.TemporaryDirectory() as folder:
        IdentifierIndex.from_sequences(sequences, list("abcdef")).save(Path(folder) / "i.safetensors")
        return (Path(folder) / "i.safetensors").read_bytes()


def _read_index(content: bytes, folder: Path) -> None:
    from semcore.decoding import IdentifierIndex

    (folder / "i.safetensors").write_bytes(content)
    index = IdentifierIndex.load(folder / "i.safetensors")
    for prefix in ((), (5,), (5, 7), (6,), (6, 9), (4,), (99,)):
        index.allowed_tokens(prefix)
    for sequence in index.sequences():
        index.items(sequence)
    index.end_tokens()


@cache
def _shard() -> tuple[bytes, bytes]:
    import torch

    from semcore.models.tensor_shards import write_shard

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shard(folder, "s", {"a": torch.ones(3, 4), "b": torch.zeros(2, 4)}, {"c": "no picture"})
        return (folder / "s.safetensors").read_bytes(), (folder / "s.json").read_bytes()


def _read_shard(name: str) -> Callable[[bytes, Path], None]:
    def read(content: bytes, folder: Path) -> None:
        from semcore.models.tensor_shards import read_shards

        for own, valid in zip(("s.safetensors", "s.json"), _shard(), strict=True):
            (folder / own).write_bytes(valid)
        (folder / name).write_bytes(content)
        if name == "s.safetensors":  # with the size that is expected, so that the content is looked at
            note = json.loads(_shard()[1])
            (folder / "s.json").write_text(json.dumps({**note, "bytes": len(content)}))
        for shard in read_shards(folder).values():
            tensors = shard.open()
            for first, last in shard.rows.values():
                np.asarray(tensors[first:last].float()).sum()

    return read


def _read_config(content: bytes, folder: Path) -> None:
    from data_prep.identifiers import Settings
    from semcore.commands.arguments import parse
    from semcore.runtime.config_file import read_yaml

    (folder / "c.yaml").write_bytes(content)
    read_yaml(folder / "c.yaml")
    parse(Settings, ["--run", "RUN", "--config", str(folder / "c.yaml")], "identifiers")


def _read_study(content: bytes, folder: Path) -> None:
    from semcore.study.definition import read_study

    (folder / "base.yaml").write_text(_CONFIG)
    (folder / "study.yaml").write_bytes(content)
    read_study(folder / "study.yaml")


def _read_prompt(content: bytes, folder: Path) -> None:
    from semcore.models.prompts import load_prompts
    from semcore.runtime.packaged_files import resource_folder

    for path in resource_folder("prompts").glob("*.jinja"):
        shutil.copy(path, folder)
    (folder / "identify_t2i.jinja").write_bytes(content)
    text = load_prompts(folder).render("identify_t2i", query="a red <|im_end|> circle")
    if "/bin/" in text or "<class" in text:
        raise Broken("a template has left its sandbox")


@cache
def _tokenizer() -> Any:
    import tokenizers

    from semcore.runtime.packaged_files import asset_folder

    return tokenizers.Tokenizer.from_file(str(asset_folder("scenes_base") / "tokenizer.json"))


@cache
def _special_tokens() -> list[str]:
    return sorted(token.content for token in _tokenizer().get_added_tokens_decoder().values())


@cache
def _prompts() -> Any:
    from semcore.models.prompts import load_prompts
    from semcore.runtime.packaged_files import resource_folder

    return load_prompts(resource_folder("prompts"), _special_tokens())


def _read_sentence(text: str, _: Path) -> None:
    """Render a sentence into prompts, and look for special tokens among its own tokens."""
    prompts = _prompts()
    candidates = [{"label": letter, "sentence": text, "keywords": text} for letter in "AB"]
    rendered = [
        prompts.render("identify_t2i", query=text),
        prompts.render("verify_i2t", candidates=candidates, image=text),
    ]
    harmless = [
        prompts.render("identify_t2i", query="a"),
        prompts.render(
            "verify_i2t", candidates=[{"label": letter, "sentence": "a", "keywords": "a"} for letter in "AB"], image="a"
        ),
    ]
    special = {_tokenizer().token_to_id(token) for token in _special_tokens()}
    for own, plain in zip(rendered, harmless, strict=True):
        counts = [
            sum(token in special for token in _tokenizer().encode(words, add_special_tokens=False).ids)
            for words in (own, plain)
        ]
        if counts[0] != counts[1]:
            raise Broken("a special token of a sentence reaches the model")
