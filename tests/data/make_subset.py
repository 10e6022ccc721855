"""Reduce the reference tensors of the network to what the tests keep in the repository.

    python tests/data/make_subset.py FROM [TO]

FROM is a directory with the three `dit_*_tiny` pairs; TO defaults to `golden/` in this folder.
The network weights are the same in all three, so only the first keeps them. Results and states of
every case stay; of the tensors inside a forward, one set of each kind of block does. The reduced
files are read by `python -m benchmarks.parity` like the whole ones.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

DROPPED = {
    "dit_bidirectional_tiny": [
        r"bf16attn/block_0[012]/",
        r"fp32/block_0[12]/",
        r"fp32/block_00/(cross_in|cross_sdpa_out|ffn_in|cam_contrib|gated_in_proj|main_[qk]$)",
        # The softmax block repeats the surroundings of block 0; its own part is softmax.
        r"fp32/block_03/(?!out$|attn_|main_sdpa_out|cam_sdpa_out|cam_raw)",
        r"derived/absmap",
    ],
    "dit_chunk_causal_tiny": [
        r"weights/",
        r"t\d+/bf16attn/block_",
        r"t\d+/fp32/block_0[12]/",
        r"t10/fp32/top/",
        r"t10/derived/",
        # Chunks show in the convolutions and in the reverse scans; the rest is as above.
        r"t10/fp32/block_\d+/(?!out$|conv_|main_num_rev|cam_num_rev)",
        r"t\d+/fp32/block_03/",
    ],
    "dit_streaming_tiny": [
        r"weights/",
        r".*/(step_\d+|save_pass)/block_",
        r"[a-z_]+2?/fp32/chunk_0[12]/cache_after/block_0[12]/",
        r"all_history/fp32/chunk_\d+/cache_",
        r".*/step_\d+/model_in",
    ],
}


def reduce(source: Path, target: Path, dropped: list[str]) -> None:
    """Copy one safetensors file without the tensors whose names match `dropped`."""
    pattern = re.compile("|".join(dropped))
    with safetensors.safe_open(str(source), framework="np") as tensors:
        names = [name for name in tensors.keys() if not pattern.match(name)]  # noqa: SIM118
        kept: dict[str, np.ndarray] = {name: tensors.get_tensor(name) for name in names}
    partial = target.with_suffix(".partial")
    save_file(kept, str(partial))
    partial.chmod(0o644)
    partial.replace(target)
    print(f"{target.name}: {len(kept)} tensors, {target.stat().st_size / 2**20:.1f} MiB")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path, nargs="?", default=Path(__file__).parent / "golden")
    args = parser.parse_args()
    for stem, dropped in DROPPED.items():
        reduce(args.source / f"{stem}.safetensors", args.target / f"{stem}.safetensors", dropped)
        shutil.copyfile(args.source / f"{stem}.json", args.target / f"{stem}.json")


if __name__ == "__main__":
    main()
