"""The frame-wise gated delta rule: `naive` is the truth, `chunk` is the speed."""

from torch import Tensor, nn

from sana_wm_gym.models.delta_rule.chunk import delta_rule, off_zero

__all__ = ["DeltaRule", "delta_rule", "off_zero"]


class DeltaRule(nn.Module):
    """`delta_rule` as a module, whose hooks can read what a block gives to it."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        beta: Tensor,
        decay: Tensor,
        spans: tuple[tuple[int, int], ...],
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """As the function."""
        return delta_rule(query, key, value, beta, decay, spans, memory)
