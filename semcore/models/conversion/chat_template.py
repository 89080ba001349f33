"""Chat template of InternVL2.5 and InternVL3.

The original defines it in Python (its "internvl2_5"): a system message, then the turns, each closed by
`<|im_end|>` and a line break. InternLM2 reads `<s>` first, as it did in training.
"""

from __future__ import annotations

import json

from semcore.runtime.errors import UserError

FORMAT = "internvl2_5"
# The system message of the models' training: "You are InternVL, made by the Shanghai AI Laboratory, ...".
SYSTEM_MESSAGE = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)
TURN = (
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}"
)


def chat_template(original: dict[str, object], *, starts_with_bos: bool) -> str:
    """Return the chat template for an original checkpoint.

    Args:
        original: its `config.json`.
        starts_with_bos: whether a conversation begins with the tokenizer's first token.

    Raises:
        UserError: the checkpoint has another conversation format.
    """
    if original.get("template") != FORMAT:
        raise UserError(
            f"the checkpoint's conversation format is {original.get('template')!r}; "
            f"only {FORMAT!r}, that of InternVL2.5 and InternVL3, can be converted"
        )
    message = original.get("system_message") or SYSTEM_MESSAGE
    system = json.dumps(f"<|im_start|>system\n{message}<|im_end|>\n", ensure_ascii=False)
    return (
        ("{{ bos_token }}" if starts_with_bos else "")
        + "{% if messages[0]['role'] != 'system' %}{{ "
        + system
        + " }}{% endif %}{% for message in messages %}"
        + TURN
        + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
