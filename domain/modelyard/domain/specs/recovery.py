"""What a training does about losses that are no numbers, and about losses that jump."""

from typing import Literal

from pydantic import Field

from modelyard.domain.specs.base import SpecModel


class RecoverySpec(SpecModel):
    """Going back to the last checkpoint, within the run, and on without the data that broke it (Chowdhery et al. 2022, PaLM,
    arXiv:2204.02311, section 5.1)."""

    on_not_finite: Literal["roll_back", "fail"] = "roll_back"
    """When the loss, the gradients or the weights are NaN or infinite. In fp16 gradients that overflow are no such case: the
    scale of the loss is lowered and the step left out."""
    on_spike: Literal["ignore", "note", "roll_back", "fail"] = "note"
    """When the loss jumps and stays up. `note`: an event and a line in the log. It is a judgement, so going back is a choice."""
    spike_score: float = Field(default=6.0, gt=0)
    """A loss is high if it is above all of the window, and so many robust standard deviations above its median."""
    spike_window: int = Field(default=128, ge=8, le=10_000)
    """Steps a loss is compared with; nothing is judged before half of them are there."""
    spike_steps: int = Field(default=4, ge=1, le=1000)
    """High losses in a row that make a spike."""
    skip_steps: int = Field(default=1, ge=1, le=100_000)
    """Steps whose data are left out after going back: those that broke it, and the ones after them up to this number."""
    max_rollbacks: int = Field(default=3, ge=0, le=1000)
    """In one job; then it fails as `nan`, and spikes are only noted."""

    def may_roll_back(self) -> bool:
        """Whether it may ever go back."""
        return self.max_rollbacks > 0 and "roll_back" in {self.on_not_finite, self.on_spike}
