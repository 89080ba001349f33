import pytest
import torch

from semcore.decoding import scoring


@pytest.mark.parametrize("bias", [False, True])
def test_slices_of_the_vocabulary_add_up_to_the_whole_softmax(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", {"cpu": 1})  # slices of 256 tokens
    monkeypatch.setattr(scoring, "ROWS_AT_A_TIME", 5)
    torch.manual_seed(0)
    head, states = torch.nn.Linear(16, 1000, bias=bias), 3 * torch.randn(12, 16)
    vocabulary = torch.randperm(1000)[:70].sort().values
    rows, tokens = torch.randint(12, (200,)), torch.randint(70, (200,))
    with torch.no_grad():
        whole = head(states).log_softmax(-1)[:, vocabulary]
        among = head(states)[:, vocabulary].log_softmax(-1)
        by_vocabulary = scoring.Scorer(head, vocabulary, "vocabulary").log_probabilities(states, rows, tokens)
        by_identifiers = scoring.Scorer(head, vocabulary, "identifiers").log_probabilities(states, rows, tokens)
    torch.testing.assert_close(by_vocabulary, whole[rows, tokens])
    torch.testing.assert_close(by_identifiers, among[rows, tokens])
