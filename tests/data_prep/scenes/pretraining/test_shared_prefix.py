import torch

from data_prep.scenes.pretraining.shared_prefix import IGNORED, Exchange, collate, merge

IMAGE_START = 3


def exchange(prompt, answer, images=()):
    return Exchange(list(prompt), list(answer), tuple(images))


def test_a_row_holds_the_prefix_once():
    row = merge([exchange([10, 11, 12], [20, 21]), exchange([10, 11, 13, 14], [22])], IMAGE_START)
    assert row.input_ids == [10, 11, 12, 20, 21, 13, 14, 22]
    assert row.labels == [IGNORED] * 3 + [20, 21] + [IGNORED] * 2 + [22]
    assert row.position_ids == [0, 1, 2, 3, 4, 2, 3, 4]
    assert row.branches == [0, 0, 1, 1, 1, 2, 2, 2]


def test_the_same_tokens_for_different_images_are_not_shared():
    row = merge([exchange([10, IMAGE_START, 4], [20], ["a"]), exchange([10, IMAGE_START, 4], [21], ["b"])], IMAGE_START)
    assert row.branches == [0, 1, 1, 1, 2, 2, 2]
    assert row.images == ["a", "b"]
    shared = merge(
        [exchange([10, IMAGE_START, 4], [20], ["a"]), exchange([10, IMAGE_START, 4], [21], ["a"])], IMAGE_START
    )
    assert shared.images == ["a"]


def test_a_branch_has_the_logits_it_would_have_alone(tiny_checkpoint):
    exchanges = [exchange([30, 31, 32, 40 + k], [50 + k, 60], ()) for k in range(3)]
    rows = [merge(exchanges, IMAGE_START), merge(exchanges[:1], IMAGE_START)]
    batch = collate(rows, pad_token_id=0)
    with torch.no_grad():
        together = tiny_checkpoint.model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        for branch, single in enumerate(exchanges, start=1):
            alone = tiny_checkpoint.model(input_ids=torch.tensor([single.prompt + single.answer])).logits[0]
            own = torch.tensor([number in (0, branch) for number in rows[0].branches])
            torch.testing.assert_close(together[0, : len(own)][own], alone, atol=1e-5, rtol=1e-4)
