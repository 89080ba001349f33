"""Fast tokenizers from original ones: Qwen2's byte-level BPE, and InternLM2's SentencePiece model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from semcore.models.conversion.chat_template import chat_template
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

END = "<|im_end|>"
IMAGE_TOKENS = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
PROBE = "Two  dogs, 12.5 km away:\n\tÜber 北京 🐕 "  # spaces, digits, and characters that fall back to bytes
INTERNLM2_TOKENS = {"bos_token": "<s>", "unk_token": "<unk>", "pad_token": "</s>", "model_max_length": 8192}
NEEDED = (*IMAGE_TOKENS.values(), "<|im_start|>", END)


def convert_tokenizer(folder: Path, original: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Return a checkpoint's tokenizer with its chat template; the end token is `<|im_end|>`.

    Args:
        folder: the original checkpoint's; none of its Python files is run.
        original: its `config.json`.

    Raises:
        UserError: files are missing or damaged, or InternVL's tokens are not among the tokens.
    """
    settings = read_json(folder / "tokenizer_config.json")
    is_internlm2 = original["llm_config"]["architectures"][0] == "InternLM2ForCausalLM"
    num_rows = original["llm_config"]["vocab_size"]
    tokenizer = internlm2_tokenizer(folder, settings, num_rows) if is_internlm2 else _qwen2(folder, num_rows)
    starts_with_bos = is_internlm2 and settings.get("add_bos_token", True)
    tokenizer.chat_template = chat_template(original, starts_with_bos=starts_with_bos)
    return tokenizer


def _qwen2(folder: Path, num_rows: int) -> PreTrainedTokenizerFast:
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file() and not (folder / "tokenizer.json").is_file():
            raise UserError(f"there is no file {folder / name}; download the checkpoint again")
    return _read(Qwen2Tokenizer, folder, num_rows)


def internlm2_tokenizer(folder: Path, settings: dict[str, Any], num_rows: int) -> PreTrainedTokenizerFast:
    """Return InternLM2's tokenizer, as transformers reads its `tokenizer.model`.

    Args:
        folder: the original checkpoint's.
        settings: its `tokenizer_config.json`.
        num_rows: number of the model's embeddings.

    Raises:
        UserError: files are missing or damaged, or tokens are not InternVL's.
    """
    slow = _sentencepiece(folder / "tokenizer.model")
    missing = {name: token for name, token in INTERNLM2_TOKENS.items() if name not in settings}
    tokenizer = _read(PreTrainedTokenizerFast, folder, num_rows, **missing)
    if tokenizer(PROBE, add_special_tokens=False)["input_ids"] != slow.encode(PROBE):
        raise UserError(
            f"transformers {transformers.__version__} cuts text otherwise than {folder / 'tokenizer.model'} says; "
            "pip install 'semcore[convert]' gets a version that does not"
        )
    _check_added(folder, settings, tokenizer, slow.get_piece_size())
    if settings.get("add_bos_token", True):
        bos = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    return tokenizer


def _sentencepiece(path: Path) -> Any:
    """Return sentencepiece's own tokenizer of a `tokenizer.model`, with which the fast tokenizer is compared.

    Raises:
        UserError: the file is missing or damaged, or sentencepiece or protobuf is not installed.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; download the checkpoint again")
    try:
        import google.protobuf  # noqa: F401 - transformers reads the pieces with it
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise UserError(f"InternLM2's tokenizer is read with {error.name}; pip install 'semcore[convert]'") from None
    try:
        return SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError):
        raise UserError(f"{path} is not a whole SentencePiece model; download it again") from None


def _read(kind: type[PreTrainedTokenizerFast], folder: Path, num_rows: int, **options: Any) -> PreTrainedTokenizerFast:
    try:
        # Naming the special tokens adds those that are missing, so look before.
        _check(folder, kind.from_pretrained(folder).get_vocab(), num_rows)
        tokenizer = kind.from_pretrained(
            folder, eos_token=END, padding_side="left", extra_special_tokens=IMAGE_TOKENS, **options
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read the tokenizer of {folder}: {' '.join(str(error).split())[:300]}") from error
    tokenizer.init_kwargs.pop("auto_map", None)  # names Python files that are not copied
    return tokenizer


def _check_added(folder: Path, settings: dict[str, Any], tokenizer: PreTrainedTokenizerFast, num_pieces: int) -> None:
    """Check that added tokens have the ids of `tokenizer_config.json` or `added_tokens.json`."""
    path = folder / "added_tokens.json"
    said = dict(read_json(path)) if path.is_file() else {}
    said |= {told["content"]: int(number) for number, told in settings.get("added_tokens_decoder", {}).items()}
    found = tokenizer.get_vocab()
    added = {token for token, number in found.items() if number >= num_pieces}
    wrong = min((token for token in added | set(said) if found.get(token) != said.get(token)), default=None)
    if wrong is not None:
        raise UserError(
            f"the token {wrong} of {folder} gets the id {found.get(wrong)}, its files say {said.get(wrong)}; "
            "copy tokenizer_config.json and added_tokens.json from the original checkpoint"
        )


def _check(folder: Path, vocabulary: dict[str, int], num_rows: int) -> None:
    missing = [token for token in NEEDED if token not in vocabulary]
    if missing:
        raise UserError(
            f"the tokenizer of {folder} has no {', '.join(missing)}: it is not InternVL's; "
            "copy tokenizer_config.json and added_tokens.json from the original checkpoint"
        )
    if max(vocabulary.values()) >= num_rows:
        raise UserError(
            f"the tokenizer of {folder} has ids up to {max(vocabulary.values())}, the model only {num_rows} rows; "
            "they are not of the same checkpoint"
        )
