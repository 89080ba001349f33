"""Words in any script: KeyBERT's in English, whole words with their marks elsewhere, pairs in unspaced scripts."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from sklearn.feature_extraction.text import CountVectorizer

from semcore.identifiers.keywords import count_words
from semcore.identifiers.words import load_segmenter, segment, split_words, word_vectorizer
from semcore.runtime.errors import UserError

SHARED = Path(__file__).parents[4] / "shared"
COCO = SHARED / "data" / "dataset_coco_val2017_captions.json.gz"
ENGLISH = [
    "A man's dog, 2 cats & a café-owner’s “naïve” Dog_2!", "<|cluster_3|> [PAD] <IMG_CONTEXT>", "", "a I ß ǅ x²",
]  # fmt: skip


@pytest.mark.parametrize("ngram_range", [(1, 1), (1, 3)])
def test_english_has_the_words_it_had(ngram_range: tuple[int, int]) -> None:
    before = CountVectorizer(lowercase=True, stop_words="english", ngram_range=ngram_range)
    now = word_vectorizer(ngram_range=ngram_range)
    for text in ENGLISH:
        assert now.build_analyzer()(text) == before.build_analyzer()(text)


@pytest.mark.skipif(not COCO.is_file(), reason=f"real captions are missing: {COCO}")
def test_real_captions_have_the_words_they_had() -> None:
    images = json.loads(gzip.decompress(COCO.read_bytes()))["images"]
    texts = [sentence["raw"] for image in images for sentence in image["sentences"]]
    before = CountVectorizer(lowercase=True, stop_words="english")
    counted = before.fit_transform(texts)
    counts, vocabulary = count_words(texts)
    assert vocabulary == before.get_feature_names_out().tolist()
    assert (counts != counted).nnz == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("एक भूरा कुत्ता लाल फ्रिस्बी के पीछे।", ["एक", "भूरा", "कुत्ता", "लाल", "फ्रिस्बी", "के", "पीछे"]),
        ("একটি বাদামী কুকুর সবুজ ঘাসে", ["একটি", "বাদামী", "কুকুর", "সবুজ", "ঘাসে"]),
        ("كَلْبٌ بُنِّيّ", ["كَلْبٌ", "بُنِّيّ"]),
        ("نمی\u200cخواهم", ["نمی\u200cخواهم"]),
        ("con chó màu nâu", ["con", "chó", "màu", "nâu"]),
        ("갈색 개 잔디밭에서", ["갈색", "개", "잔디밭에서"]),
        ("கறுப்பு நாய்", ["கறுப்பு", "நாய்"]),
        ("一只棕色的狗在绿色的草地上", ["棕色", "狗", "绿色", "草地"]),
        ("沙堡12号，3个孩子", ["沙堡", "12号", "3个", "孩子"]),
        ("茶色の犬がフリスビーを追いかけている", ["茶色", "犬", "フリスビー", "追"]),
        ("犬とねこがりんごを", ["犬", "ねこがりんご"]),
        ("abc犬def", ["abc", "犬", "def"]),
        ("แมว เด็ก หมา", ["แมว", "เด็ก", "หมา"]),
        ("ศูนย์", ["ศูนย์"]),
        ("ខ្មែរ ឆ្កែ", ["ខ្មែរ", "ឆ្កែ"]),
        ("ໝາ", ["ໝາ"]),
        ("မြန်မာ", ["မြန်မာ"]),
        ("1\ufe0f\u20e3 ❤\ufe0f dog", ["dog"]),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_words_keep_their_marks_in_either_form(text: str, words: list[str], form: Literal["NFC", "NFD"]) -> None:
    expected = [unicodedata.normalize("NFC", word) for word in words]
    assert split_words(unicodedata.normalize(form, text)) == expected


def test_no_word_begins_with_a_mark_and_none_is_a_clause() -> None:
    thai = split_words("สุนัขสีน้ำตาลวิ่งไล่จานร่อนสีแดงบนสนามหญ้า")
    assert {"วิ่ง", "จาน", "แดง", "หญ้า"} <= set(thai)
    assert all(not unicodedata.category(word[0]).startswith("M") and len(word) <= 8 for word in thai)


def test_the_users_segmenter_is_asked_for_scripts_without_spaces_only() -> None:
    asked: list[str] = []

    def segmenter(run: str) -> list[str]:
        asked.append(run)
        return [run[:2], run[2:], "。", "x"]

    assert split_words("a dog 红色飞盘 café", segmenter) == ["dog", "红色", "飞盘", "café"]
    assert asked == ["红色飞盘"]
    counts, vocabulary = count_words(["红色飞盘"], segmenter=segmenter)
    assert (vocabulary, counts.nnz) == (["红色", "飞盘"], 2)


def test_a_segmenter_is_named_by_module_and_function() -> None:
    assert load_segmenter("semcore.identifiers.words:segment") is segment
    for wrong, found in (("jieba", "jieba"), ("no_such_module:lcut", "no_such_module"), ("json:no", "no")):
        with pytest.raises(UserError, match=rf"--segmenter .*{found}"):
            load_segmenter(wrong)
