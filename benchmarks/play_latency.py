"""How long after a key does the first frame generated under it leave for the page?

  next chunk   keys act from the next chunk on
  again        the running chunk is generated again behind the frames that were shown

    python -m benchmarks.play_latency                    # six minutes; the machine should be idle
    python -m benchmarks.play_latency --changes 20 --out build/play_latency.json

Starts `sana-wm play` as a user would, once per way, and presses keys at random moments through a
WebSocket on loopback. `median_s` and `p90_s` are of the time from the receipt of a key message to
the sending of the first frame generated under it; `client` from the sending of the message to the
receipt of that frame. `shown_db` is the median PSNR of frames that were shown and their second
generation, `last_shown_db` that of the last of them alone, where the new frames are joined on.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from websockets.sync.client import ClientConnection, connect

from sana_wm_gym.files import write_json
from sana_wm_gym.play.wire import FRAME
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table

WAYS = {"next chunk": ["--next-chunk"], "again": []}
PAUSE_S = (0.3, 1.5)
"""Between two changes, uniform."""
BOUNDS = {"median_s": 0.25, "p90_s": 0.45, "shown_db": 35.0, "last_shown_db": 32.0}
_HELD: tuple[list[str], ...] = (["forward"], ["yaw_left"], ["forward", "yaw_right"], ["back"], [])


@contextmanager
def served(world: str, flags: list[str]) -> Iterator[str]:
    """Address of the socket of a `sana-wm play` that ends with the block."""
    command = [sys.executable, "-m", "sana_wm_gym", "play", "--no-browser", "--port", "0"]
    command += ["--world", world, *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://(\S+)/\?token=(\S+)", server.stdout.readline())
            if found is None:
                raise ValueError(f"{' '.join(command)} printed no address")
            yield f"ws://{found[1]}/play?token={found[2]}"
        finally:
            server.terminate()


class Keys:
    """Presses keys and notes when the first frame under them came."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sent: list[float] = []
        self.latencies: list[float] = []

    def press(self, held: list[str]) -> None:
        """The n-th call is the server's change n: `held` differs from the one before."""
        self.sent.append(time.monotonic())
        self.socket.send(json.dumps({"type": "keys", "held": held}))

    def watch(self, until: float, kind: str | None = None) -> Any:
        """Receive until a time, or the first JSON message of a kind."""
        while (left := until - time.monotonic()) > 0:
            try:
                message = self.socket.recv(timeout=left)
            except TimeoutError:
                break
            if isinstance(message, str):
                values = json.loads(message)
                if values["type"] == kind:
                    return values
            elif message[0] == FRAME:
                answers = struct.unpack("<BIII", message[:13])[3]
                new = self.sent[len(self.latencies) : answers]
                self.latencies += [time.monotonic() - sent for sent in new]
        return None


def measure(world: str, flags: list[str], changes: int, seed: int) -> dict[str, Any]:
    """Statistics of one way."""
    rng = np.random.default_rng(seed)
    with served(world, flags) as address, connect(address, max_size=2**26) as socket:
        keys, held = Keys(socket), _HELD[-1]
        keys.watch(time.monotonic() + 10)
        for _ in range(changes):
            held = [other for other in _HELD if other != held][rng.integers(len(_HELD) - 1)]
            keys.press(held)
            keys.watch(time.monotonic() + rng.uniform(*PAUSE_S))
        keys.watch(time.monotonic() + 5)
        socket.send(json.dumps({"type": "stats"}))
        stats = keys.watch(time.monotonic() + 10, "stats")
    server, client = stats["latencies_s"], keys.latencies
    shown, seam = stats["agreement_db"], stats["seam_db"]
    return {
        "changes": len(server),
        "median_s": float(np.median(server)),
        "p90_s": float(np.quantile(server, 0.9)),
        "client_median_s": float(np.median(client)),
        "client_p90_s": float(np.quantile(client, 0.9)),
        "generated_again": len(seam),
        "shown_db": float(np.median(shown)) if shown else None,
        "last_shown_db": float(np.median(seam)) if seam else None,
        "last_shown_p10_db": float(np.quantile(seam, 0.1)) if seam else None,
        "generation_s": float(np.median(stats["generation_s"])),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print both ways and the bounds, and write OUT."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    flags.add_argument("--world", default="tiny")
    flags.add_argument("--changes", type=int, default=200)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--out", type=Path, default=Path("docs/data/play_latency.json"))
    options = flags.parse_args(arguments)
    if options.changes < 1:
        flags.error(f"changes is {options.changes}, expected at least 1")
    source = provenance("benchmarks.play_latency")
    rows = [
        {"way": way, **measure(options.world, extra, options.changes, options.seed)}
        for way, extra in WAYS.items()
    ]
    Table.of(f"{options.world}, {options.changes} changes of the keys", rows).print(Console())
    again = rows[-1]
    met = {
        name: again[name] is not None
        and (again[name] <= bound if name.endswith("_s") else again[name] >= bound)
        for name, bound in BOUNDS.items()
    }
    print(", ".join(f"{name} {'met' if ok else 'MISSED'}" for name, ok in met.items()))
    write_json(options.out, {**source, "bounds": BOUNDS, "rows": rows})
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
