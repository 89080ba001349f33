"""Telling look-alike candidates apart (paper, section 3.3): three verifiers, and their fusion with the generator.

`listwise` shows the model all candidates and reads the options' letters at one position of one
forward pass; in `blocks` it reads each candidate by itself, once for all queries; `pointwise` shows
it one at a time and reads "match" or "mismatch"; `likelihood` asks the captioner how likely each
sentence is given each image; `fusion` weighs a verifier's score against the generator's;
`order_bias` measures what the candidates' order does to a listwise choice.
"""

from semcore.verification.attention import read_attention
from semcore.verification.block_reader import BlockReader
from semcore.verification.fusion import Fusion, fit_fusion
from semcore.verification.likelihood import given_image_log_probabilities, sentence_log_probabilities
from semcore.verification.listwise import Choice, Question, choose, choose_as_asked, question_turn
from semcore.verification.options import LETTERS, option_tokens
from semcore.verification.order_bias import Reordered, draw_orders, order_bias, reorder
from semcore.verification.pointwise import match_log_odds, pair_turn

__all__ = [
    "LETTERS",
    "BlockReader",
    "Choice",
    "Fusion",
    "Question",
    "Reordered",
    "choose",
    "choose_as_asked",
    "draw_orders",
    "fit_fusion",
    "given_image_log_probabilities",
    "match_log_odds",
    "option_tokens",
    "order_bias",
    "pair_turn",
    "question_turn",
    "read_attention",
    "reorder",
    "sentence_log_probabilities",
]
