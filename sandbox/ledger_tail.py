"""Follows the fakes' ledgers as they grow, a bounded piece at a time."""

from pathlib import Path

import orjson

from sandbox.fakes.ledger import Line

_PIECE_BYTES = 256 * 1024


class LedgerTail:
    """Reads one ledger from its beginning; a file that is not there yet is empty. It must never be read by two tails as one."""

    def __init__(self, path: Path):
        self._path = path
        self._offset = 0

    def read(self) -> list[Line]:
        """The whole lines that are new, at most about 256 KiB of them; call again until there are none."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                piece = file.read(_PIECE_BYTES)
        except FileNotFoundError:
            return []
        whole = piece[: piece.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [orjson.loads(raw) for raw in whole.splitlines()]
