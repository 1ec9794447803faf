"""The linear model that climate science asks for first: a vector autoregression of the leading EOFs.

    x_t = sum over k of a_t,k EOF_k + r_t,    a_(t+1) = c + sum over lags l of A_l a_(t-l),    r_(t+1) = sum over lags l of rho_l r_(t-l)

The anomalies x of all variables, in units of their spread, lie on few patterns, the eigenvectors of their covariance (EOFs). Their
amplitudes a are predicted by ridge regression, drawn to persistence; what the patterns leave over likewise, with one number a lag for
all cells. With one lag this is a linear inverse model (Penland and Sardeshmukh 1995, J. Climate 8, 1999-2024). It is fitted in closed
form, once for each choice of EOFs, lags and ridge; training tells which does best on the validation part.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from forecast_cli.config import RunConfig
from forecast_cli.domain import Domain
from forecast_cli.errors import ConfigError, DataError
from forecast_cli.models.base import Forecast, ForecastModel, Records, State, filled

RIDGES = (1e-4, 1e-2, 1e-1, 1.0)
"""Strengths of the ridge, in units of the mean square of a predictor."""
EXTRA, ROUNDS = 10, 4
"""Vectors beyond the EOFs that are wanted, and passes over the data, that make the leading ones exact: Halko et al. (2011)."""
NOTHING = 1e-6
"""A rest of so small a share of the variance is rounding."""


class _Amplitudes(NamedTuple):
    """What the fits need of the training part.

    series: amplitudes of each record, (time, EOF).
    products: (1 + lags, 1 + lags), sums over cells and times of the products of anomalies one frame ahead and at each lag.
    """

    series: list[Tensor]
    products: Tensor


class VectorAutoregression(ForecastModel):
    """A linear model of EOF amplitudes; see the module. Static fields and forcing are not for it; clocks and cycles it does not look at.

    Before the first frame there was, as far as the model knows, that frame all along: give it a context beyond its longest lag.
    """

    eofs: Tensor
    coefficients: Tensor
    constant: Tensor
    rho: Tensor
    choice: Tensor

    def __init__(self, config: RunConfig, domain: Domain) -> None:
        super().__init__(domain, pointwise=config.data.normalize == "pointwise", masked=config.data.masked)
        if given := (*config.data.static, *config.data.forcing):
            raise ConfigError(f"var looks at the variables alone; leave out {', '.join(given)} (--static, --forcing).")
        options, cells = config.model, domain.shape[0] * domain.shape[1] * domain.shape[2]
        self.choices = list(itertools.product(sorted(options.eofs), sorted(options.lags), RIDGES))
        self.fits = len(self.choices)
        count, season = min(max(options.eofs), cells), options.seasonal_lag
        self.lags = [
            *range(max(options.lags)),
            *sorted({season - 1, season} - set(range(max(options.lags))) if season else ()),
        ]
        self.season = season
        self.register_buffer("eofs", torch.zeros(count, cells))
        self.register_buffer("coefficients", torch.zeros(len(self.lags), count, count))
        self.register_buffer("constant", torch.zeros(count))
        self.register_buffer("rho", torch.zeros(len(self.lags)))
        self.register_buffer("choice", torch.zeros(3))
        self._amplitudes: _Amplitudes | None = None

    def forward(
        self,
        context: Tensor,
        steps: int,
        *,
        static: Tensor | None = None,
        forcing: Tensor | None = None,
        state: State | None = None,
    ) -> Forecast:
        self.require_inputs(static, forcing)
        predicted, state = self._advance(context, state)
        fitted, fields = predicted[:, :-1], [predicted[:, -1:]]
        for _ in range(steps - 1):
            predicted, state = self._advance(fields[-1], state)
            fields.append(predicted)
        return Forecast(fitted, torch.cat(fields, dim=1), state)

    def _advance(self, frames: Tensor, state: State | None) -> tuple[Tensor, State]:
        """For each of `frames` (batch, time, channel, height, width) the next one; and the anomalies that later steps look back at."""
        anomalies, back, time = self._anomalies(frames), max(self.lags), frames.shape[1]
        before = anomalies[:, :1].expand(-1, back, -1) if state is None else state[0]
        record = torch.cat([before, anomalies], dim=1)
        amplitudes = record @ self.eofs.T
        following, rest = self.constant, torch.zeros_like(anomalies)
        for lag, matrix, rho in zip(self.lags, self.coefficients, self.rho, strict=True):
            then = slice(back - lag, back - lag + time)
            following = following + amplitudes[:, then] @ matrix
            rest = rest + rho * record[:, then]
        found = (rest + following @ self.eofs).unflatten(2, frames.shape[2:])
        return self.blank(filled(self.climatology) + found * self.scale), (record[:, time:],)

    def _anomalies(self, frames: Tensor) -> Tensor:
        """Differences from the climatology in units of the spread, (..., cells of all channels); 0 where a value is missing."""
        found = (frames - filled(self.climatology)) / self.scale
        return (filled(found) if self.masked else found).flatten(-3)

    @torch.no_grad()
    def fit(self, records: Callable[[], Records], number: int) -> None:
        if self._amplitudes is None:
            self._amplitudes = self._decompose(records)
        count, lags, ridge = self.choices[number]
        count = min(count, len(self.eofs))
        used = self._used(lags)
        longest = max(self.lags[index] for index in used)
        rows, targets = [], []
        for series in self._amplitudes.series:
            then = _lagged(series[:, :count], [-1, *(self.lags[index] for index in used)])
            rows.append(torch.cat(then[1:], dim=1))
            targets.append(then[0] - then[1])
        predictors, target = torch.cat(rows), torch.cat(targets)
        if len(target) < 2:
            raise DataError(
                f"no record of the training part is longer than the {longest + 2} frames that var looks at. "
                "Lower model.lags or model.seasonal_lag."
            )
        means = predictors.mean(dim=0), target.mean(dim=0)
        predictors, target = predictors - means[0], target - means[1]
        solution = _ridge(predictors.T @ predictors, predictors.T @ target, ridge)
        self.rho.zero_()
        self.rho[used] = self._rest(count, used, ridge).to(self.rho)
        self.coefficients.zero_()
        self.coefficients[used, :count, :count] = solution.unflatten(0, (len(used), count)).to(self.coefficients)
        # All of a frame is predicted as the rest is, its leading EOFs by what they need beside that.
        self.coefficients[0].diagonal()[:count] += 1
        self.coefficients.diagonal(dim1=1, dim2=2)[:, :count] -= self.rho[:, None]
        self.constant.zero_()
        self.constant[:count] = (means[1] - means[0] @ solution).to(self.constant)
        self.choice.copy_(torch.tensor([count, lags, ridge]))

    def _used(self, lags: int) -> list[int]:
        """Which of the lags a choice of so many takes: those of the season always."""
        return [index for index, lag in enumerate(self.lags) if lag < lags or (self.season and lag >= self.season - 1)]

    def _rest(self, count: int, used: list[int], ridge: float) -> Tensor:
        """A number for each of the lags, which predict what the first EOFs leave over of a frame; 0 where that is nothing."""
        assert self._amplitudes is not None
        products = self._amplitudes.products.clone()
        whole = float(products[1, 1])
        for series in self._amplitudes.series:
            leading = torch.stack(_lagged(series[:, :count], [-1, *self.lags]))
            products -= torch.einsum("ltk,mtk->lm", leading, leading)
        if float(products[1, 1]) <= NOTHING * whole:
            return torch.zeros(len(used))
        ahead, back = products[0, 1:][used] - products[1, 1:][used], products[1:, 1:][used][:, used]
        found = _ridge(back, ahead, ridge)
        found[0] += 1
        return found

    def _decompose(self, records: Callable[[], Records]) -> _Amplitudes:
        """Find the EOFs by subspace iteration, block after block of the training part, and the amplitudes along them."""

        def blocks() -> Iterator[tuple[int, Tensor]]:
            return ((sample, self._anomalies(frames.to(self.mean.device)).double()) for sample, frames in records())

        count, cells = self.eofs.shape
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(cells, min(cells, count + EXTRA), dtype=torch.float64, generator=generator).to(
            self.mean.device
        )
        for _ in range(ROUNDS):
            basis = torch.linalg.qr(_total(block.T @ (block @ basis) for _, block in blocks()))[0]
        within = _total((block @ basis).T @ (block @ basis) for _, block in blocks())
        leading = basis @ torch.linalg.eigh(within)[1].flip(1)[:, :count]
        # The sign of an eigenvector is nobody's choice: the largest value is positive.
        signs = leading.gather(0, leading.abs().argmax(dim=0, keepdim=True)).sign()
        self.eofs.copy_((leading * torch.where(signs == 0, 1.0, signs)).T)
        return self._project(blocks())

    def _project(self, blocks: Iterable[tuple[int, Tensor]]) -> _Amplitudes:
        """The amplitudes of every record, and what the prediction of the rest is told from."""
        patterns, looked_at = self.eofs.double().T, [-1, *self.lags]
        series: dict[int, list[Tensor]] = {}
        last: dict[int, Tensor] = {}
        products = torch.zeros(len(looked_at), len(looked_at), dtype=torch.float64, device=self.mean.device)
        for sample, block in blocks:
            whole = torch.cat([last[sample], block]) if sample in last else block
            then = _lagged(whole, looked_at)
            products += torch.stack([torch.stack([(one * other).sum() for other in then]) for one in then])
            last[sample] = whole[-1 - max(self.lags) :].clone()  # a view would keep the block
            series.setdefault(sample, []).append(block @ patterns)
        return _Amplitudes([torch.cat(parts) for parts in series.values()], products)

    @property
    def parameter_count(self) -> int:
        count, lags, _ = map(int, self.choice.tolist())
        used = len(self._used(lags))
        return count * self.eofs.shape[1] + used * count**2 + count + used if count else 0

    def learned_numbers(self) -> dict[str, tuple[float, str]]:
        return {name: (value, "1") for name, value in zip(("EOFs", "lags", "ridge"), self.choice.tolist(), strict=True)}


def _lagged(series: Tensor, lags: Sequence[int]) -> list[Tensor]:
    """For each lag the values of a series (time, ...) so long before all the times that have them all; -1 is one step ahead."""
    longest, time = max(lags), len(series)
    return [series[longest - lag : max(longest - lag, time - 1 - lag)] for lag in lags]


def _ridge(square: Tensor, product: Tensor, strength: float) -> Tensor:
    """Least squares from its normal equations, drawn to 0 by a strength in units of the mean square of a predictor."""
    penalty = strength * square.diagonal().mean() * torch.eye(len(square)).to(square)
    found: Tensor = torch.linalg.solve(square + penalty, product)
    return found


def _total(parts: Iterator[Tensor]) -> Tensor:
    """The sum of tensors of which only one is held at a time."""
    total: Tensor = next(parts)
    for part in parts:
        total += part
    return total
