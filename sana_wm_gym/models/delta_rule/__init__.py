"""The frame-wise gated delta rule: `naive` is the truth, `chunk` is the speed."""

from sana_wm_gym.models.delta_rule.chunk import delta_rule

__all__ = ["delta_rule"]
