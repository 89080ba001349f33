"""The `generate` engine: scores are teacher-forced log-probabilities of identifiers of the corpus."""

from __future__ import annotations

import pytest
import torch

from semcore.decoding import IdentifierIndex, generate_with_transformers
from semcore.runtime.errors import UserError
from tests.semcore.decoding import tiny


def test_scores_of_mixed_length_prompts() -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([5, 9])
    identifiers = tiny.corpus(30)
    index = IdentifierIndex.from_sequences(identifiers, [str(row) for row in range(30)])
    result = generate_with_transformers(model, inputs, index, num_beams=6)
    assert result.scores.shape == (2, 6)
    for query, found in enumerate(result.sequences):
        assert len(set(found)) == len(found) == 6
        assert all(list(sequence) in identifiers for sequence in found)
        assert [index.items_of_leaf(leaf) for leaf in result.leaves[query]] == [index.items(own) for own in found]
        assert result.scores[query].tolist() == sorted(result.scores[query].tolist(), reverse=True)
        expected = [tiny.teacher_forced(model, inputs, query, sequence) for sequence in found]
        assert result.scores[query].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_repetition_penalty_in_the_checkpoint_does_not_change_scores() -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([5])
    model.generation_config.repetition_penalty = 1.5
    index = IdentifierIndex.from_sequences([[7, 7, 7, tiny.END], [8, 7, tiny.END]], ["a", "b"])
    result = generate_with_transformers(model, inputs, index, num_beams=2)
    expected = [tiny.teacher_forced(model, inputs, 0, sequence) for sequence in result.sequences[0]]
    assert result.scores[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_fewer_identifiers_than_beams_pad_the_scores() -> None:
    index = IdentifierIndex.from_sequences([[7, tiny.END], [8, 9, tiny.END]], ["a", "b"])
    result = generate_with_transformers(tiny.llama(), tiny.text_prompts([4]), index, num_beams=5)
    assert set(result.sequences[0]) == {(7, tiny.END), (8, 9, tiny.END)}
    assert result.scores[0, 2:].tolist() == [-torch.inf] * 3


def test_embeddings_instead_of_tokens_give_the_same_result() -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([4, 6])
    index = IdentifierIndex.from_sequences(tiny.corpus(20), [str(row) for row in range(20)])
    embedded = {
        "inputs_embeds": model.get_input_embeddings()(inputs["input_ids"]),
        "attention_mask": inputs["attention_mask"],
    }
    from_tokens = generate_with_transformers(model, inputs, index, num_beams=4)
    from_embeddings = generate_with_transformers(model, embedded, index, num_beams=4)
    assert from_embeddings.sequences == from_tokens.sequences


def test_images_of_several_tiles_keep_their_scores() -> None:
    """Regression: `generate` mixed up the tiles of an image before transformers 5.20."""
    model, inputs = tiny.internvl(), tiny.image_prompts(3, [3, 5])
    index = IdentifierIndex.from_sequences(tiny.corpus(20), [str(row) for row in range(20)])
    result = generate_with_transformers(model, inputs, index, num_beams=4)
    for query, found in enumerate(result.sequences):
        expected = [tiny.teacher_forced(model, inputs, query, sequence) for sequence in found]
        assert result.scores[query].tolist() == pytest.approx(expected, abs=1e-4)


def test_an_end_token_inside_an_identifier_is_refused() -> None:
    index = IdentifierIndex.from_sequences([[5], [5, 1]], ["a", "b"])
    with pytest.raises(UserError, match="end every identifier with the same end token"):
        generate_with_transformers(tiny.qwen2(), tiny.text_prompts([4]), index, num_beams=2)
