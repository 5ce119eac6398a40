"""The residual network of IMPALA (arXiv:1802.01561), for images."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions that keep the shape, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return image + self.layers(image)


def residual_layers(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    """For each width a convolution, pooling that halves the image, and two blocks; ReLU at the end.

    Args:
        channels: of the images `[B, channels, height, width]` that go in; `widths[-1]` come out.
    """
    layers: list[nn.Module] = []
    for before, width in pairwise((channels, *widths)):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.MaxPool2d(3, 2, padding=1), Block(width), Block(width)]
    return [*layers, nn.ReLU()]


def halved(size: int, times: int) -> int:
    """An image's side after so many poolings."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
