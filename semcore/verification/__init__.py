"""Verification of hard negatives (paper, section 3.3): three verifiers, and their fusion with the generator.

`listwise` puts all candidates into one prompt and reads the logits of their letters at one position; with
candidate blocks (`block_inference`) each candidate is read separately, once for all queries; `pointwise` puts
one candidate into a prompt and reads "match" or "mismatch"; `likelihood` scores each sentence given each image
with the captioner; `score_fusion` combines a verifier's score with the generator's.
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
