"""A run opened, searched once, and its page served until its context is left."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from semcore.data.corpus_changes import with_added_images
from semcore.data.directions import Direction
from semcore.demo import server
from semcore.demo.examples import choose_examples
from semcore.demo.query_pictures import QueryPictures
from semcore.demo.run_search import RunSearch
from semcore.retrieval.retriever import Retriever


@contextmanager
def served_page(
    run: Path,
    host: str,
    port: int,
    *,
    split: str = "all",
    data: Path | None = None,
    base: Path | None = None,
    allow_mismatch: Collection[str] = (),
) -> Iterator[str]:
    """Yield the address of a run's page.

    Args:
        run: the run folder.
        host: an address of this machine.
        port: the port.
        split: whose items are searched, "all" for all.
        data: present path of the dataset.
        base: present path of the checkpoint that the run was made with.
        allow_mismatch: kinds of lineage mismatch that are allowed.

    Raises:
        UserError: the run cannot be searched, or the port is in use.
    """
    with server.private_folder() as folder:
        retriever = Retriever.from_run(run, data=data, split=split, base=base, allow_mismatch=allow_mismatch)
        pictured = with_added_images(retriever.run, retriever.dataset, retriever.changes)
        search = RunSearch(retriever, QueryPictures(pictured, folder / "dataset"), allow_mismatch)
        search.warm_up()
        from semcore.demo.page import CSS, build_page  # gradio reads the environment when it is imported

        examples = choose_examples(search, retriever.split)
        page = build_page(search, examples, retriever.run.path.resolve().name, lambda: _counts(search))
        try:
            yield server.start(page, host, port, CSS)
        finally:
            page.close(verbose=False)


def _counts(search: RunSearch) -> str:
    """Return what can be found, in words."""
    retriever = search.retriever
    found = [
        f"{len(retriever.items(direction)):,} {direction.item_kind}"
        for direction in Direction
        if direction not in search.refused
    ]
    where = f"of split {retriever.split}" if retriever.split else "of all splits"
    return f"{' and '.join(found)} {where} of {retriever.dataset.name}"
