"""Original InternVL checkpoints (`InternVLChatModel`) -> native folders of transformers."""

from semcore.models.conversion.convert import convert_checkpoint

__all__ = ["convert_checkpoint"]
