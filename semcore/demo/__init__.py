"""The search page of a run: sentences or pictures in, ranked hits with their explanation out, in a browser."""
