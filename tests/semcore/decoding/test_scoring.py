import pytest
import torch

from semcore.decoding import rounded_head, scoring


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


@pytest.mark.parametrize("bias", [False, True])
def test_a_sum_of_rounded_tokens_is_as_good(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against float64; five states are sure of a token that identifiers have, one of another."""
    monkeypatch.setattr(scoring.Scorer, "_rounds", lambda *_: True)
    monkeypatch.setattr(scoring, "CHUNK_ELEMENTS", {"cpu": 2**12})
    torch.manual_seed(0)
    head, states = torch.nn.Linear(64, 40_000, bias=bias), 2 * torch.randn(12, 64)
    vocabulary = torch.randperm(40_000)[:700].sort().values
    rows, tokens = torch.arange(12).repeat_interleave(700), torch.arange(700).repeat(12)
    with torch.no_grad():
        head.weight[vocabulary[:5]] += 0.1 * states[:5]
        head.weight[vocabulary[-1] - 1] += 0.1 * states[5]
        scorer = scoring.Scorer(head, vocabulary, "vocabulary")
        found = scorer.log_probabilities(states, rows, tokens).reshape(12, 700)
        exact = head.double()(states.double()).log_softmax(-1)[:, vocabulary]
    off = (found - exact).abs().amax(dim=1)
    assert off[:5].max() < 3e-5, "the others' share is nothing, and so is their rounding"
    assert off[6:].max() < 1e-3
    assert off[5] < 0.1, "the rounding of one logit"


def test_the_rounded_head_follows_its_weights() -> None:
    torch.manual_seed(0)
    head, states = torch.nn.Linear(8, 500, bias=False), torch.randn(3, 8)
    vocabulary = torch.tensor([3, 400])
    before = rounded_head.log_sum_of_others(states, head, vocabulary, 64)
    with torch.no_grad():
        head.weight.mul_(3)
    after = rounded_head.log_sum_of_others(states, head, vocabulary, 64)
    others = torch.ones(500, dtype=torch.bool).index_fill(0, vocabulary, value=False)
    torch.testing.assert_close(after, head(states)[:, others].logsumexp(1), atol=1e-2, rtol=0)
    assert not torch.allclose(before, after, atol=0.1)


@pytest.mark.parametrize(
    ("num_tokens", "flags", "worth"),
    [(100_000, "avx512_bf16", True), (100_000, "avx2", False), (30_000, "avx512_bf16", False)],
)
def test_only_large_vocabularies_are_rounded_and_only_where_it_is_faster(
    num_tokens: int, flags: str, worth: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semcore.runtime.native_precision.cpu_flags", lambda: {flags})
    head = torch.nn.Linear(1, num_tokens)
    assert scoring.Scorer(head, torch.arange(100), "vocabulary")._rounds(head) is worth
