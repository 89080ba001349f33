"""Fast tokenizers from original ones: Qwen2's byte-level BPE, and InternLM2's SentencePiece model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

from semcore.models.conversion.chat_template import chat_template
from semcore.models.conversion.sentencepiece import fast_tokenizer, read_piece_model
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json

END = "<|im_end|>"
IMAGE_TOKENS = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
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
    tokenizer = _internlm2(folder, settings, num_rows) if is_internlm2 else _qwen2(folder, num_rows)
    starts_with_bos = is_internlm2 and settings.get("add_bos_token", True)
    tokenizer.chat_template = chat_template(original, starts_with_bos=starts_with_bos)
    return tokenizer


def _qwen2(folder: Path, num_rows: int) -> PreTrainedTokenizerFast:
    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file() and not (folder / "tokenizer.json").is_file():
            raise UserError(f"there is no file {folder / name}; download the checkpoint again")
    try:
        # Naming the special tokens adds those that are missing, so look before.
        _check(folder, Qwen2Tokenizer.from_pretrained(folder).get_vocab(), num_rows)
        return Qwen2Tokenizer.from_pretrained(
            folder, eos_token=END, padding_side="left", extra_special_tokens=IMAGE_TOKENS
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read the tokenizer of {folder}: {' '.join(str(error).split())[:300]}") from error


def _internlm2(folder: Path, settings: dict[str, Any], num_rows: int) -> PreTrainedTokenizerFast:
    added = _added_tokens(folder, settings)
    tokenizer = fast_tokenizer(read_piece_model(folder / "tokenizer.model"), added)
    _check(folder, tokenizer.get_vocab(), num_rows)
    bos = _text(settings.get("bos_token", "<s>"))
    if settings.get("add_bos_token", True):
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=END,
        unk_token=_text(settings.get("unk_token", "<unk>")),
        pad_token=_text(settings.get("pad_token", "</s>")),
        additional_special_tokens=[token.content for token in added.values() if token.special],
        extra_special_tokens=IMAGE_TOKENS,
        model_max_length=settings.get("model_max_length", 8192),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _added_tokens(folder: Path, settings: dict[str, Any]) -> dict[int, AddedToken]:
    """Return id -> token, from `tokenizer_config.json` and, in older folders, `added_tokens.json`."""
    path = folder / "added_tokens.json"
    listed = read_json(path) if path.is_file() else {}
    tokens = {number: AddedToken(text, special=True, normalized=False) for text, number in listed.items()}
    for number, told in settings.get("added_tokens_decoder", {}).items():
        options = {
            key: told[key] for key in ("lstrip", "rstrip", "single_word", "normalized", "special") if key in told
        }
        tokens[int(number)] = AddedToken(told["content"], **options)
    return dict(sorted(tokens.items()))


def _text(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else token["content"]


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
