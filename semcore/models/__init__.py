"""A checkpoint made ready: load, adapt, quantise, convert, prompt, tokenise, look at images."""
