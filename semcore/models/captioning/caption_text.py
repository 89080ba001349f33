"""Answers of a model or a server read as captions: the caption, or the kind of answer that is none.

Models think aloud, decline, and dress their answers up; none of that is a caption, and what is stored as one becomes
an identifier, a training pair and a prompt.
"""

from __future__ import annotations

import re
from typing import Literal

from semcore.runtime.text import clean_text

Kind = Literal["ok", "empty", "thoughts", "refused"]

_NAMES = "think|thinking|thought|thoughts|reasoning|reason|reflection|analysis|scratchpad|seed:think"
# <think>, [THINK], and Kimi's triangles; DeepSeek's and Qwen's chat templates write the opening one themselves.
_OPENING = re.compile(rf"<({_NAMES})>|\[({_NAMES})\]|◁think▷|<\|begin_of_thought\|>", re.IGNORECASE)
_CLOSING = re.compile(rf"</({_NAMES})>|\[/({_NAMES})\]|◁/think▷|<\|end_of_thought\|>", re.IGNORECASE)
# gpt-oss speaks in channels; only the last one is for the reader.
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
_ANSWER = re.compile(r"<(answer|caption|output|response)>(.*?)(?:</\1>|$)", re.IGNORECASE | re.DOTALL)
_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>")

_FENCE = re.compile(r"```(?:[a-z]*\n|\s)(.*?)\s*```", re.DOTALL)
_LEAD = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok)[!,.:]\s+)?"
    r"(?:here(?:'s|’s| is| are)\s+(?:a|an|the|your|one|my)\s[^:.\n]{0,60}?"
    r"(?:caption|description|sentence)[^:.\n]{0,60}:|(?:(?:image|picture|photo|short|final)\s+)?(?:caption|description):)\s*",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "「": "」", "『": "』"}
_EMPHASIS = re.compile(r"(\*\*|__|\*|_)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)
_HEADING = re.compile(r"#{1,6}\s+")

# A refusal opens the answer and speaks of the one who answers: what a sign in an image says is none.
_ME = r"(?:i|we)"
_NOT = (
    r"(?:can(?:no|')?t|can not|could(?:n't| not)|won't|will not"
    r"|(?:am|are)(?: not able| unable)|'(?:m|re)(?: not able| unable))"
)
_ACT = (
    r"(?:help|assist|describe|identify|comply|fulfil|provide|generate|create|view|see|access|process|analy[sz]e"
    r"|answer|discuss|engage|continue|respond|caption|share|do that|complete)"
)
_SORRY = r"(?:(?:i ?(?:'m|am) )?(?:very |so |really )?sorry|(?:my )?apologies|i apologi[sz]e"
_DECLINES = rf"{_ME} ?(?:am |'m |are |'re )?(?:sorry,? )?(?:but )?{_NOT}"
_REFUSAL = re.compile(
    rf"{_SORRY}|unfortunately|regrettably)\b[^.!?]{{0,80}}?\b{_ME} ?{_NOT}"
    rf"|{_SORRY})[^.!?]{{0,40}}[.!] {_ME} ?{_NOT}"
    rf"|{_DECLINES} (?:to )?{_ACT}\b"
    r"|as an? (?:ai|artificial intelligence|language model|large language model)\b"
    r"|i(?: do not|'m not| am not| don't)[^.]{0,40}(?:comfortable|allowed|permitted|able to (?:view|see|help|assist))"
    r"|(?:this|the) (?:request|content|image) (?:violates|has been (?:blocked|filtered|flagged))"
    r"|(?:很|非常|十分)?(?:抱歉|对不起|對不起|不好意思)[^。]{0,20}(?:无法|無法|不能|不可以|没法)|我(?:无法|無法|不能)(?:提供|描述|识别|協助|协助|回答|查看|处理)"
    r"|申し訳(?:ありません|ございません)|죄송(?:합니다|하지만)"
    r"|(?:je suis )?désolée?\b[^.]{0,40}\bje ne (?:peux|suis)"
    r"|lo siento\b[^.]{0,40}\bno (?:puedo|me es)|(?:desculpe|sinto muito|lamento)\b[^.]{0,40}\bnão (?:posso|consigo)"
    r"|(?:es )?tut mir (?:sehr )?leid\b[^.]{0,40}\bich (?:kann|darf)|mi dispiace\b[^.]{0,40}\bnon (?:posso|sono)"
    r"|(?:к сожалению|извините|простите)\b[^.]{0,40}\bя не могу",
    re.IGNORECASE,
)


def read_caption(answer: str) -> tuple[Kind, str]:
    """Return the kind of an answer and its caption; for a refusal its words, otherwise "" where there is no caption.

    Thoughts are left out, closed or not; so is what stands around a caption ("Caption: ...", quotes about the whole,
    markdown's marks), where nothing else can be meant.

    >>> read_caption("<think>A dog? Yes.</think>  A dog  on grass.")
    ('ok', 'A dog on grass.')
    >>> read_caption("<think>A dog")
    ('thoughts', '')
    >>> read_caption("I'm sorry, but I can't help with that.")
    ('refused', "I'm sorry, but I can't help with that.")
    """
    spoken = without_thoughts(answer)
    if not clean_text(spoken):
        return ("thoughts" if clean_text(_MARK.sub(" ", answer)) else "empty"), ""
    caption = _undressed(spoken)
    if is_refusal(caption):
        return "refused", caption
    return ("ok" if caption else "empty"), caption


def without_thoughts(answer: str) -> str:
    """Return the part of an answer that is meant for the reader, without marks of chat templates."""
    if _CHANNEL.search(answer):
        channels = _FINAL.split(answer)
        answer = channels[-1].partition("<|channel|>")[0] if len(channels) > 1 else ""
    if closings := list(_CLOSING.finditer(answer)):
        answer = answer[closings[-1].end() :]
    if opening := _OPENING.search(answer):
        answer = answer[: opening.start()]
    if wrapped := _ANSWER.search(answer):
        answer = wrapped[2]
    return _MARK.sub(" ", answer)


def is_refusal(caption: str) -> bool:
    """Tell whether an answer opens by declining."""
    return _REFUSAL.match(caption.replace("’", "'").lstrip("\"'“ ")) is not None


def _undressed(text: str) -> str:
    """Return a caption without what stands around it."""
    text = text.strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    caption = clean_text(_HEADING.sub("", text, count=1) if _HEADING.match(text) else text)
    for _ in range(3):  # **Caption:** "..."
        before = caption
        emphasis = _EMPHASIS.match(caption)
        if emphasis and (emphasis.end() == len(caption) or _LEAD.fullmatch(emphasis[2])):
            caption = clean_text(emphasis[2] + caption[emphasis.end() :])
        if (lead := _LEAD.match(caption)) and lead.end() < len(caption):
            caption = caption[lead.end() :].lstrip("*_ ")
        close = _QUOTES.get(caption[:1])
        if close and len(caption) > 2 and caption[-1] == close and not {caption[0], close} & set(caption[1:-1]):
            caption = caption[1:-1].strip()
        if caption == before:
            break
    return caption
