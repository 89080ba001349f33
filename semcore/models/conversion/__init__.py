"""Conversion of original InternVL checkpoints (`InternVLChatModel`) to native folders of transformers."""

from semcore.models.conversion.convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
