"""Telling look-alike candidates apart (paper, section 3.3): two verifiers, and their fusion with the generator.

`listwise` shows the model all candidates and reads the options' letters at one position of one
forward pass; `likelihood` asks the captioner how likely each sentence is given each image; `fusion`
weighs a verifier's score against the generator's.
"""

from semcore.verification.fusion import Fusion, fit_fusion
from semcore.verification.likelihood import given_image_log_probabilities, sentence_log_probabilities
from semcore.verification.listwise import LETTERS, Choice, Question, choose, option_tokens, question_turn

__all__ = [
    "LETTERS",
    "Choice",
    "Fusion",
    "Question",
    "choose",
    "fit_fusion",
    "given_image_log_probabilities",
    "option_tokens",
    "question_turn",
    "sentence_log_probabilities",
]
