"""L-BFGS that stays where the loss and its gradient are finite."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from forecast_cli.errors import DivergedError

LIMIT = 1e6
"""A larger loss counts as infinite; a loss of 1 is as bad as forecasting the mean."""
HALVINGS = 5
"""Points tried between refused and finite parameters before the finite ones themselves."""
SHORTER = 0.25
"""Factor of the first trial's length after a step whose trials were all refused."""


class LBFGS(torch.optim.LBFGS):
    """torch's L-BFGS with its strong Wolfe line search, which steps back from evaluations that are refused.

    An evaluation is refused where the closure raises DivergedError, or where its loss or gradient is not finite.

    - A refused trial of a line search is an upper end of the bracket: the next trial lies halfway to the lower end.
    - Where the first evaluation of a step is refused, the parameters move back towards those of the step before.
    - Where no trial is accepted, the next step begins as steepest descent with a shorter first trial.

    The last parameters with a finite loss are part of the optimizer's state.
    """

    @property
    def is_blocked(self) -> bool:
        """Whether the last step has found no finite trial, so that the loss has not changed."""
        return bool(self.param_groups[0]["lr"] < 1)

    def restart(self) -> None:
        """Forget the curvature, not the last finite parameters."""
        finite = self._memory.get("finite")
        self.state.clear()
        if finite is not None:
            self._memory["finite"] = finite

    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one step of several iterations.

        Parameters
        ----------
        closure : callable
            Leaves the gradient in the parameters and returns the loss.

        Returns
        -------
        Tensor
            The loss before the step; NaN where no finite loss was reached, and nothing has moved forward.
        """
        loss = self._evaluate(closure)
        if not torch.isfinite(loss):
            loss = self._step_back(closure)
        if not torch.isfinite(loss):
            return torch.full_like(loss, torch.nan)
        start = self._memory["finite"] = self._copies()
        losses, lowest, best = [loss], loss, start

        def trial() -> Tensor:
            """The first loss is that of the start, whose gradient is there."""
            nonlocal lowest, best
            losses.append(loss if len(losses) == 1 else self._evaluate(closure))
            if losses[-1] < lowest:
                lowest, best = losses[-1], self._copies()
            return losses[-1]

        super().step(trial)
        refused = not self._is_finite(losses)
        if not self._is_finite(self._params):  # a direction beyond the finite numbers, times a length of 0
            self._put(start)
        if refused and self._are(start):  # a search that ends with a refused trial drops the finite ones before it
            self._put(best)
            self.restart()
        blocked = refused and self._are(start)
        self.param_groups[0]["lr"] = self.param_groups[0]["lr"] * SHORTER if blocked else 1.0
        return loss

    @property
    def _memory(self) -> dict[str, Any]:
        return cast(dict[str, Any], self.state[self._params[0]])

    def _evaluate(self, closure: Callable[[], Tensor]) -> Tensor:
        """The loss; infinite with a gradient of NaN where it is refused.

        torch interpolates with values and slopes of both ends of a bracket, and takes its middle where that gives no number.
        Any finite slope at a high value would put the next trial so near the lower end that rounding decides about it.
        """
        try:
            loss = closure()
        except DivergedError:
            loss = self._params[0].new_full((), torch.inf)
        gradients = [parameter.grad for parameter in self._params if parameter.grad is not None]
        if loss < LIMIT and self._is_finite(gradients):
            return loss
        for parameter in self._params:
            parameter.grad = torch.full_like(parameter, torch.nan)
        return torch.full_like(loss, torch.inf)

    def _step_back(self, closure: Callable[[], Tensor]) -> Tensor:
        """The loss at the first finite point on the way back to the last finite parameters; infinite where there is none."""
        finite, refused = self._memory.get("finite", []), self._copies()
        self.restart()
        if not finite:
            return self._params[0].new_full((), torch.inf)
        for share in (0.5**n for n in range(1, HALVINGS + 1)):
            self._put([torch.lerp(before, now, share) for before, now in zip(finite, refused, strict=True)])
            loss = self._evaluate(closure)
            if torch.isfinite(loss):
                return loss
        self._put(finite)
        return self._evaluate(closure)

    def _are(self, values: list[Tensor]) -> bool:
        return all(torch.equal(parameter, value) for parameter, value in zip(self._params, values, strict=True))

    def _copies(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._params]

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._params, values, strict=True):
            parameter.copy_(value)

    @staticmethod
    def _is_finite(tensors: list[Tensor]) -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
