"""Telling look-alike candidates apart (paper, section 3.3): three verifiers, and their fusion with the generator.

`listwise` shows the model all candidates and reads the options' letters at one position of one
forward pass; in blocks (`block_inference`) it reads each candidate by itself, once for all queries; `pointwise` shows
it one at a time and reads "match" or "mismatch"; `likelihood` asks the captioner how likely each
sentence is given each image; `score_fusion` weighs a verifier's score against the generator's.
"""

from semcore.verification.block_inference import BlockReader
from semcore.verification.block_layout import read_attention
from semcore.verification.likelihood import (
    Pair,
    given_image_log_probabilities,
    likelihood_gains,
    sentence_log_probabilities,
)
from semcore.verification.listwise import choose, choose_in_given_order
from semcore.verification.option_logits import LETTERS, option_tokens
from semcore.verification.pointwise import match_log_odds, pair_turn
from semcore.verification.question import Choice, Question, question_turn
from semcore.verification.score_fusion import Fusion, fit_fusion
from semcore.verification.session import VerifierSession, load_verifier

__all__ = [
    "LETTERS",
    "BlockReader",
    "Choice",
    "Fusion",
    "Pair",
    "Question",
    "VerifierSession",
    "choose",
    "choose_in_given_order",
    "fit_fusion",
    "given_image_log_probabilities",
    "likelihood_gains",
    "load_verifier",
    "match_log_odds",
    "option_tokens",
    "pair_turn",
    "question_turn",
    "read_attention",
    "sentence_log_probabilities",
]
