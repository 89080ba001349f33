"""The API of a run over HTTP: one application, with concurrent queries in one forward, on uvicorn or on Ray Serve."""
