"""Requests: each request is kept in its results folder, so that `status` can tell which cells are missing."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

from harness.data.kept_files import write_whole
from harness.errors import RequestError, without_controls
from harness.records.schema import fitted, parsed
from harness.records.store import Store
from harness.selection.plan import Cell, make_plan

MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Request:
    """A request: the selections as the user wrote them, and the text of the command."""

    methods: str
    tasks: str
    seeds: tuple[int, ...]
    protocol: str
    preset: str
    plugins: tuple[str, ...] = ()
    command: str = ""

    def plan(self) -> list[Cell]:
        """The request's cells; raises RequestError as `make_plan` does."""
        return make_plan(self.methods, self.tasks, self.seeds, self.protocol, self.preset)


def parse_seeds(text: str | int | Sequence[int]) -> tuple[int, ...]:
    """``"5"`` or 5 gives the seeds 0 to 4. ``"0,3,7"`` or a list gives exactly the listed seeds.

    Raises:
        RequestError: other text, no seed, more than `MOST_SEEDS` by number, or a seed outside 0 … 2**32 − 1.
    """
    try:
        if isinstance(text, int):
            seeds = _first(text)
        elif isinstance(text, str):
            seeds = tuple(int(number) for number in text.split(",")) if "," in text else _first(int(text))
        else:
            seeds = tuple(operator.index(seed) for seed in text)
    except (TypeError, ValueError, OverflowError, MemoryError):
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32:
        raise RequestError(f"--seeds {text} is not valid; give a number of seeds such as 5, or a list such as 0,3,7")
    return tuple(dict.fromkeys(seeds))


def _first(count: int) -> tuple[int, ...]:
    if count > MOST_SEEDS:
        raise ValueError(count)
    return tuple(range(count))


def remember(store: Store, request: Request) -> None:
    """Keep a request in its results folder.

    Raises:
        RequestError: the folder cannot be written.
    """
    content = json.dumps(asdict(request), indent=1, sort_keys=True) + "\n"
    path = store.path / "requests" / f"{sha256(content.encode()).hexdigest()[:16]}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            write_whole(path, content.encode())
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror or error}") from error


def remembered(store: Store) -> list[Request]:
    """The requests kept in a results folder, oldest first; unreadable ones are added to the store's problems."""
    requests = []
    for path in (store.path / "requests").glob("*.json"):
        try:
            made = path.stat().st_mtime
            content = fitted(Request, parsed(path.read_text(encoding="utf-8")))
            content["command"] = content.get("command", "").replace("\n", " ")  # one line wherever it is shown
            request = Request(**{**content, **{name: tuple(content.get(name, ())) for name in ("seeds", "plugins")}})
            requests.append((made, str(path), request))
        except (OSError, ValueError) as error:
            store.problems.append(without_controls(f"{path}: not a readable request ({error})"))
    return [request for *_, request in sorted(requests, key=lambda each: each[:2])]
