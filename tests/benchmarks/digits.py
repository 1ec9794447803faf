"""Images: scikit-learn's digits with a small VGG and a small ResNet. A table of docs/activations.md.

    pip install scikit-learn
    OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/digits.py

1,797 digits of 8 x 8: 898 train, 299 choose the learning rate, 600 are the test, the same for all. 20 epochs of Adam at a constant
rate, 64 images a step, without augmentation and decay. Five seeds draw the first weights and the order. Printed for each activation
and rate: test accuracy [%], mean and standard deviation over the seeds; the share [%] of channels that are dead at the end on all
training images. Bold: the rate whose mean accuracy on the validation part is best. The last weights count, not the best.
"""

import importlib.util
import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecast_cli.models.activations import Activity, activation_report, replace_activations

PARTS = {"training": 898, "validation": 299, "test": 600}
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEEDS = range(5)
EPOCHS, BATCH = 20, 64
Activation = Callable[[], nn.Module]


class BSiLU(nn.Module):
    """(x + a) s(x) - a / 2 forward too, with the logistic function s: what SUGAR borrows only the derivative of."""

    def forward(self, x: Tensor, alpha: float = 1.67) -> Tensor:
        return (x + alpha) * torch.sigmoid(x) - alpha / 2


ACTIVATIONS: dict[str, Activation | str] = {
    "relu": nn.ReLU,
    "sugar-bsilu": "bsilu",
    "sugar-nelu": "nelu",
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "B-SiLU forward": BSiLU,
}
"""A module, or a surrogate that takes the place of ReLU's gradient."""


def vgg(activate: Activation = nn.ReLU) -> nn.Sequential:
    """Three pairs of 3 x 3 convolutions, halved after each, and a hidden layer: 77,000 weights. Without batch norm."""
    layers: list[nn.Module] = []
    before = 1
    for channels in (16, 32, 64):
        for _ in range(2):
            layers += [nn.Conv2d(before, channels, 3, padding=1), activate()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before, 64), activate(), nn.Linear(64, 10))


class Block(nn.Module):
    """activate(x + branch(x)); with batch norm, as He et al. (2015), arXiv 1512.03385."""

    def __init__(self, before: int, channels: int, activate: Activation) -> None:
        super().__init__()
        stride = 1 if before == channels else 2
        self.branch = nn.Sequential(
            nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            activate(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        shorter = (nn.Conv2d(before, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
        self.skip = nn.Sequential(*shorter) if stride == 2 else nn.Identity()
        self.activate = activate()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.activate(self.skip(x) + self.branch(x))
        return found


def resnet(activate: Activation = nn.ReLU) -> nn.Sequential:
    """Three blocks of 16, 32 and 64 channels and a mean over the image: 78,000 weights. With batch norm."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        activate(),
        *(Block(before, channels, activate) for before, channels in ((16, 16), (16, 32), (32, 64))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


NETWORKS = {"VGG": vgg, "ResNet": resnet}


def network(kind: str, name: str) -> nn.Module:
    """One of NETWORKS with one of ACTIVATIONS."""
    chosen = ACTIVATIONS[name]
    if not isinstance(chosen, str):
        return NETWORKS[kind](chosen)
    model = NETWORKS[kind]()
    replace_activations(model, chosen)
    return model


class Outcome(NamedTuple):
    """Accuracies [%], and what each activation gives on the training part."""

    validation: float
    test: float
    report: list[Activity]


Parts = dict[str, tuple[Tensor, Tensor]]


def digits() -> Parts:
    """Images (n, 1, 8, 8), standardised by the training part, and labels, of each part."""
    if importlib.util.find_spec("sklearn") is None:
        sys.exit("digits.py needs scikit-learn: pip install scikit-learn")
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images, labels = torch.from_numpy(loaded.images).float()[:, None], torch.from_numpy(loaded.target).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    known = images[order[: PARTS["training"]]]
    images = (images - known.mean()) / known.std()
    sizes = order.split(list(PARTS.values()))
    return {part: (images[chosen], labels[chosen]) for part, chosen in zip(PARTS, sizes, strict=True)}


def trained(model: nn.Module, images: Tensor, labels: Tensor, *, rate: float) -> None:
    """Adam on the cross entropy, in an order that torch's seed draws."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return 100 * float((model.eval()(images).argmax(dim=1) == labels).float().mean())


def outcome(parts: Parts, kind: str, name: str, rate: float, seed: int) -> Outcome:
    torch.manual_seed(seed)
    model = network(kind, name)
    trained(model, *parts["training"], rate=rate)
    scores = (accuracy(model, *parts[part]) for part in ("validation", "test"))
    return Outcome(*scores, activation_report(model, parts["training"][0]))


def told(outcomes: list[Outcome]) -> str:
    """Test accuracy, and the share of dead channels over all activations that a report knows."""
    tests = [found.test for found in outcomes]
    rows = [row for found in outcomes for row in found.report]
    dead = f"; {100 * sum(row.dead_channels for row in rows) / sum(row.channels for row in rows):.0f}" if rows else ""
    return f"{statistics.mean(tests):.1f} ± {statistics.stdev(tests):.1f}{dead}"


def main() -> None:
    torch.set_num_threads(1)
    parts = digits()
    print(f"| network | activation | {' | '.join(f'{rate:g}' for rate in RATES)} |")
    print(f"| --- | --- |{' --- |' * len(RATES)}")
    for kind in NETWORKS:
        for name in ACTIVATIONS:
            found = {rate: [outcome(parts, kind, name, rate, seed) for seed in SEEDS] for rate in RATES}
            best = max(RATES, key=lambda rate: statistics.mean(one.validation for one in found[rate]))
            cells = (f"**{told(found[rate])}**" if rate == best else told(found[rate]) for rate in RATES)
            print(f"| {kind} | `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
