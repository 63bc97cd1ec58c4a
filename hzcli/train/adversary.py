"""S2CRNet's adversary: a patch discriminator with least squares (LSGAN).

Ling et al., RainNet / S2CRNet (arXiv 2109.05750, Sec. 3.4): min E[(D(y) - 1)^2] for the network,
min E[(D(x) - 1)^2] + E[D(y)^2] for the discriminator, which is optimised by RMSprop.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

RATE = 2e-4


def discriminator() -> nn.Sequential:
    """Patches of a picture (B, 3, h, w) to scores (B, 1, h', w'); 12 x 12 of them at 256."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 5, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs in ((64, 128), (128, 256), (256, 512)):
        layers += [nn.Conv2d(inputs, outputs, 5, 2, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 0))


class Adversary:
    """A discriminator with its own optimizer; `weight` of its part of the network's loss."""

    def __init__(self, weight: float, device: torch.device | str) -> None:
        self.weight = weight
        self.net = discriminator().to(device)
        self.optimizer = torch.optim.RMSprop(self.net.parameters(), lr=RATE)

    def fooled(self, fake: Tensor) -> Tensor:
        """The network's part of the loss: how far its pictures are from being taken for real."""
        self.net.requires_grad_(False)
        loss = (self.net(fake) - 1).square().mean()
        self.net.requires_grad_(True)
        return self.weight * loss

    def learn(self, real: Tensor, fake: Tensor) -> None:
        """One step of the discriminator."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = (self.net(real) - 1).square().mean() + self.net(fake.detach()).square().mean()
        loss.backward()
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
