"""The geometry of the score chart."""

from semcore.evaluation.statistics import Interval
from semcore.report.chart import HEIGHT, WIDTH, height_of, score_chart
from semcore.report.tables import ScoreRow


def row(name: str, score: float) -> ScoreRow:
    columns = ("R@1", "R@5", "R@10")
    return ScoreRow(name, "", dict.fromkeys(columns, score), dict.fromkeys(columns, Interval(score - 5, score + 5)))


def test_higher_scores_stand_higher_and_all_fit() -> None:
    assert HEIGHT > height_of(0) > height_of(50) > height_of(100) > 0
    for group in score_chart([row("generated", 20), row("verified", 95)]):
        low, high = group.bars
        assert low.y > high.y
        assert low.y + low.height == high.y + high.height == height_of(0)
        assert low.x + low.width < high.x
        assert group.left == low.x
        assert group.right == high.x + high.width < WIDTH


def test_whiskers_reach_the_ends_of_the_interval() -> None:
    bar = score_chart([row("verified", 50)])[0].bars[0]
    assert (bar.low, bar.high) == (height_of(45), height_of(55))
    assert bar.label == "50.0"


def test_the_ceiling_stands_where_it_is_known_and_rows_without_intervals_are_not_drawn() -> None:
    table = [
        row("generated", 20),
        ScoreRow("ceiling", "", {"R@1": 80.0}, {}),
        ScoreRow("without trie", "", {"R@1": 3}, {}),
    ]
    groups = score_chart(table)
    assert [group.ceiling for group in groups] == [height_of(80), None, None]
    assert [len(group.bars) for group in groups] == [1, 1, 1]
