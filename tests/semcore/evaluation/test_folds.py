import pytest

from semcore.evaluation.folds import assign_folds, mean_metrics
from semcore.evaluation.metrics import retrieval_metrics
from semcore.runtime.errors import UserError


def test_folds_are_consecutive_and_hold_every_image_once():
    images = [f"image{number}" for number in range(5_000)]
    folds = assign_folds(images, 5)
    assert [len(fold) for fold in folds] == [1_000] * 5
    assert [image for fold in folds for image in fold] == images
    assert [len(fold) for fold in assign_folds(images[:11], 4)] == [2, 3, 3, 3]


def test_more_folds_than_images_are_refused():
    with pytest.raises(UserError, match="^--folds 5 is more than the 3 images of the split; choose fewer$"):
        assign_folds(["a", "b", "c"], 5)


def test_the_mean_of_each_score():
    folds = [
        retrieval_metrics({"q": ["a", "b"]}, {"q": {"b"}}, 2),
        retrieval_metrics({"p": ["c", "d"]}, {"p": {"c"}}, 4),
    ]
    mean = mean_metrics(folds)
    assert (mean["R@1"], mean["R@5"], mean["rSum@5"], mean["MRR@10"]) == (50.0, 100.0, 150.0, 0.75)
    assert (mean["num_queries"], mean["num_items"]) == (1, 3)


def test_folds_with_different_scores_have_no_mean():
    with pytest.raises(ValueError, match="^every fold needs the same scores$"):
        mean_metrics([{"R@1": 1.0}, {"R@5": 1.0}])
    with pytest.raises(ValueError, match="^every fold needs the same scores$"):
        mean_metrics([])
