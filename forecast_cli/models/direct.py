"""Direct forecasters: a window of frames, beside each other, through one network to the next frame.

    the last `model.window` frames -> patches -> backbone -> decoder -> next frame

Nothing is remembered but the window, so all windows of a context are computed at once.
"""

from typing import cast

import torch
from torch import Tensor

from forecast_cli.config import RunConfig
from forecast_cli.domain import Domain
from forecast_cli.models.backbones import Backbone
from forecast_cli.models.base import State
from forecast_cli.models.cell import Kernels
from forecast_cli.models.convolution import over_frames
from forecast_cli.models.grid_forecaster import GridForecaster
from forecast_cli.models.patches import PatchDecoder, PatchEncoder


class DirectForecaster(GridForecaster):
    """A network from each window to the next frame; its state is the last window without its first frame.

    Of the older frames it sees what it sees of the last one, but for static fields and forcing, of which there is one.
    """

    def __init__(self, config: RunConfig, domain: Domain, backbone: Backbone) -> None:
        super().__init__(config, domain)
        options, widths = config.model, config.model.hidden
        variables, height, width = domain.shape
        self.older = options.window - 1
        self.seen = self.channels - len(domain.static) - len(domain.forcing)
        channels = self.channels + self.older * self.seen
        self.encoder = PatchEncoder(channels, widths[0], (height, width), options, self.boundary)
        self.backbone = backbone(widths[0], widths, size=self.encoder.size, options=options, boundary=self.boundary)
        self.decoder = PatchDecoder(cast(int, self.backbone.channels_out), variables, (height, width), options.patch)
        if self.predict == "tendency":
            self.decoder.start_at_zero()

    def network(
        self,
        inputs: Tensor,
        state: State | None,
        kernels: tuple[Kernels, ...],  # noqa: ARG002 - convolutions take their weights as they are
    ) -> tuple[Tensor, State]:
        seen, time = inputs[:, :, : self.seen], inputs.shape[1]
        before = seen[:, :1].expand(-1, self.older, -1, -1, -1) if state is None else state[0]
        record = torch.cat([before, seen], dim=1)
        windows = torch.cat([inputs, *(record[:, start : start + time] for start in range(self.older))], dim=2)
        return over_frames(self._next, windows), (record[:, time:],)

    def _next(self, windows: Tensor) -> Tensor:
        """The frame after each window (n, channels, height, width)."""
        following: Tensor = self.decoder(self.backbone(self.encoder(windows)))
        return following
