"""Captions by a local model, or by a server of OpenAI's protocol."""
