"""The convolutions of a network alone, run again: what a step of it cannot undercut."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Seen(NamedTuple):
    """Arguments of a convolution as torch's general one takes them, and whether oneDNN was asked for by name."""

    frames: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int
    named: bool = False

    def forward(self) -> Tensor:
        found: Tensor
        if self.named:
            found = torch.ops.aten.mkldnn_convolution.default(
                self.frames, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
            )
        else:
            found = torch.ops.aten.convolution.default(*self[:-1])
        return found


class Convolutions(TorchDispatchMode):
    """Remembers the convolutions that are run under it, with their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function in (torch.ops.aten.conv2d.default, torch.ops.aten.conv_transpose2d.input):
            with self:  # without gradients they come whole
                return function.decompose(*arguments, **(options or {}))
        if function is torch.ops.aten.convolution.default:
            self.seen.append(Seen(*_bare(arguments)))
        elif function is torch.ops.aten.mkldnn_convolution.default:
            frames, weight, bias, padding, stride, dilation, groups = _bare(arguments)
            whole = (frames, weight, bias, stride, padding, dilation, False, [0, 0], groups)
            self.seen.append(Seen(*whole, named=True))
        return function(*arguments, **(options or {}))


def _bare(arguments: Iterable[Any]) -> Iterator[Any]:
    return (value.detach() if isinstance(value, Tensor) else value for value in arguments)


def forward_only(seen: list[Seen]) -> Callable[[], object]:
    def run() -> None:
        with torch.inference_mode():
            for convolution in seen:
                convolution.forward()

    return run


def backward_too(seen: list[Seen]) -> Callable[[], object]:
    """Forward, and backward to input (but of the first, which is given), weight and bias."""
    with torch.no_grad():
        grads = [torch.ones_like(convolution.forward()) for convolution in seen]

    def run() -> None:
        with torch.inference_mode():
            for number, (convolution, grad) in enumerate(zip(seen, grads, strict=True)):
                frames, weight, bias, *rest = convolution[:-1]
                convolution.forward()
                wanted = [number > 0, True, bias is not None]
                sizes = None if bias is None else list(bias.shape)
                torch.ops.aten.convolution_backward.default(grad, frames, weight, sizes, *rest, wanted)

    return run
