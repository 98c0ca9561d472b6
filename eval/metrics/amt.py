"""AMT-S, a network that paints the frame between two (Li et al., AMT: All-Pairs Multi-Field Transforms, CVPR 2023).

Two flows, from the time in question to either frame, are estimated from coarse to fine, at each of three levels
corrected by what correlations of all pairs of points say near their ends. At full size there are three fields of flow,
each with a mask and a residual; what they paint is averaged and touched up by a few convolutions (sec. 3). Modules bear
the published names, so `amt-s.pth` loads.

Letters: B pairs of frames, H height, W width, h and w those of the features at an eighth of it, C channels, M points
that are compared at once.
"""

import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eval.metrics.checkpoints import load_published
from eval.weights import weights_file

__all__ = ["LEAST_SIDE", "AmtS", "Correlation", "amt"]

LEAST_SIDE = 64  # the coarsest of four levels at an eighth of the size has one point then

_RADIUS, _LEVELS = 3, 4  # of the windows of correlations
_FIELDS = 3  # of flow at full size
_CHANNELS = (20, 32, 44, 56)
_SKIP = 20  # last channels that the residual blocks work on in between
_AT_ONCE = 2**24  # correlations that are held at once: the frame's size does not matter


class AmtS(nn.Module):
    """The small AMT, 3.0 million weights; one frame in and one out have sides of a multiple of 16, at least 64."""

    def __init__(self) -> None:
        super().__init__()
        c1, c2, c3, c4 = _CHANNELS
        self.feat_encoder = _CorrelatedFeatures(84)
        self.encoder = _Pyramid()
        self.decoder4 = _Decoder(2 * c4 + 1, 2 * c4, c3 + 4)
        self.decoder3 = _Decoder(3 * c3 + 4, 3 * c3, c2 + 4)
        self.decoder2 = _Decoder(3 * c2 + 4, 3 * c2, c1 + 4)
        self.decoder1 = _Decoder(3 * c1 + 4, 3 * c1, 8 * _FIELDS)
        self.update4 = _Update(c3, 1)
        self.update3 = _Update(c2, 2)
        self.update2 = _Update(c1, 4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * _FIELDS, 6 * _FIELDS, 3, 1, 1),
            nn.PReLU(6 * _FIELDS),
            nn.Conv2d(6 * _FIELDS, 3, 3, 1, 1),
        )

    def forward(self, first: Tensor, last: Tensor, time: float = 0.5) -> Tensor:
        """The frame between two.

        Args:
            first: `(B, 3, H, W)` in [0, 1].
            last: The same.
            time: Where between the two it is, above 0 and below 1.

        Returns:
            `(B, 3, H, W)` in [0, 1].
        """
        mean = torch.cat([first, last], 2).mean((1, 2, 3), keepdim=True)  # B 1 1 1
        first, last = first - mean, last - mean
        correlation = Correlation(*self.feat_encoder(torch.cat([first, last])).chunk(2))
        early, late = self.encoder(first), self.encoder(last)  # at 1/2, 1/4, 1/8, 1/16

        when = torch.full_like(early[3][:, :1], time)
        out = self.decoder4(torch.cat([early[3], late[3], when], 1))  # B 4+c3 h w
        flows, features = out[:, :4], out[:, 4:]
        flows, features = self.update4(features, flows, correlation, time)
        for level, decoder, update in ((2, self.decoder3, self.update3), (1, self.decoder2, self.update2)):
            out = decoder(_together(features, early[level], late[level], flows))
            flows, features = out[:, :4] + 2 * _resized(flows, 2), out[:, 4:]
            flows, features = update(features, flows, correlation, time)

        out = self.decoder1(_together(features, early[0], late[0], flows))  # B 8*fields H W
        shifts, mask, residual = out.split([4 * _FIELDS, _FIELDS, 3 * _FIELDS], 1)
        rough = 2 * _resized(flows, 2)
        # All fields of the one frame come first, then those of the other: so the channels are published.
        flows = shifts + torch.cat([rough[:, :2].repeat(1, _FIELDS, 1, 1), rough[:, 2:].repeat(1, _FIELDS, 1, 1)], 1)
        return self._painted(first, last, flows, mask.sigmoid(), residual, mean).clamp(0, 1)

    def _painted(
        self, first: Tensor, last: Tensor, flows: Tensor, mask: Tensor, residual: Tensor, mean: Tensor
    ) -> Tensor:
        """Each field brings both frames, mixes them by its mask and adds its residual; all fields make one frame."""
        fields = []
        to_first, to_last = (part.split(2, 1) for part in flows.chunk(2, 1))
        for a, b, share, more in zip(to_first, to_last, mask.split(1, 1), residual.split(3, 1), strict=True):
            fields.append(share * _warped(first, a) + (1 - share) * _warped(last, b) + mean + more)
        return torch.stack(fields).mean(0) + self.comb_block(torch.cat(fields, 1))


class Correlation:
    """Correlations of all points of two frames, looked up in windows around where the points go, at four scales.

    Published code holds all pairs of points, which at 1080p takes 4 GB for each of the two directions. The mean over
    2x2 points of a correlation is the correlation with the mean of their features, so each scale is computed from
    averaged features when it is asked for, for some points at a time.

    Args:
        first: Features of the one frame, `(B, C, h, w)`.
        last: Of the other.
    """

    def __init__(self, first: Tensor, last: Tensor) -> None:
        self.first, self.last = [first], [last]
        for _ in range(_LEVELS - 1):
            self.first.append(F.avg_pool2d(self.first[-1], 2, 2))
            self.last.append(F.avg_pool2d(self.last[-1], 2, 2))
        rows, columns = (torch.arange(float(side), device=first.device) for side in first.shape[-2:])
        grid = torch.meshgrid(rows, columns, indexing="ij")
        self.places = torch.stack([grid[1], grid[0]])[None]  # 1 2 h w, x before y

    def __call__(self, flows: Tensor, time: float) -> Tensor:
        """Windows at both ends of the flows.

        Args:
            flows: From the time in question to the first and to the last frame, x and y each: `(B, 4, h, w)`.
            time: See `AmtS.forward`. Motion is taken as even, so a whole way is the part of it by its share.

        Returns:
            `(B, 2 * 4 * 49, h, w)`.
        """
        to_first, to_last = flows.chunk(2, 1)
        return torch.cat(
            [
                self._looked_up(self.first[0], self.last, self.places + to_last / time),
                self._looked_up(self.last[0], self.first, self.places + to_first / (1 - time)),
            ],
            1,
        )

    def _looked_up(self, asking: Tensor, asked: list[Tensor], places: Tensor) -> Tensor:
        batch, channels, height, width = asking.shape
        side = torch.arange(-_RADIUS, _RADIUS + 1, dtype=places.dtype, device=places.device)
        # The published windows run along y where x would be expected; the weights were trained on that.
        window = torch.stack(torch.meshgrid(side, side, indexing="ij"), -1).reshape(1, 1, -1, 2)  # 1 1 49 2
        queries = asking.flatten(2).transpose(1, 2) / math.sqrt(channels)  # B hw C
        centers = places.flatten(2).transpose(1, 2)[:, :, None]  # B hw 1 2
        found = []
        for level, features in enumerate(asked):
            tall, wide = features.shape[-2:]
            size = torch.tensor([wide, tall], dtype=places.dtype, device=places.device)
            keys = features.flatten(2)  # B C tall*wide
            some = max(1, _AT_ONCE // (batch * tall * wide))
            parts = []
            for query, center in zip(queries.split(some, 1), centers.split(some, 1), strict=True):
                maps = (query @ keys).reshape(-1, 1, tall, wide)  # B*M 1 tall wide
                points = (center / 2**level + window).reshape(-1, 1, window.shape[2], 2)
                # Pixel coordinates in this form, unlike with aligned corners, know sides of one pixel too.
                values = F.grid_sample(maps, (2 * points + 1) / size - 1, align_corners=False)
                parts.append(values.reshape(batch, -1, window.shape[2]))  # B M 49
            found.append(torch.cat(parts, 1))
        return torch.cat(found, 2).transpose(1, 2).reshape(batch, -1, height, width)


class _CorrelatedFeatures(nn.Module):
    """What correlations compare: RAFT's small encoder, `(B, 3, H, W)` -> `(B, C, H/8, W/8)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3)
        self.layer1 = nn.Sequential(_Bottleneck(32, 32, 1), _Bottleneck(32, 32, 1))
        self.layer2 = nn.Sequential(_Bottleneck(32, 64, 2), _Bottleneck(64, 64, 1))
        self.layer3 = nn.Sequential(_Bottleneck(64, 96, 2), _Bottleneck(96, 96, 1))
        self.conv2 = nn.Conv2d(96, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.instance_norm(self.conv1(x)).relu()
        out: Tensor = self.conv2(self.layer3(self.layer2(self.layer1(x))))
        return out


class _Bottleneck(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inner = after // 4
        self.conv1 = nn.Conv2d(before, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1)
        self.conv3 = nn.Conv2d(inner, after, 1)
        self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride), nn.InstanceNorm2d(after))
        if stride == 1:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in (self.conv1, self.conv2, self.conv3):
            y = F.instance_norm(convolution(y)).relu()
        return (self.downsample(x) + y).relu()


class _Pyramid(nn.Module):
    """What frames look like at four scales: `(B, 3, H, W)` -> one `(B, C, H/2, W/2)` and so on to a sixteenth."""

    def __init__(self) -> None:
        super().__init__()
        before = 3
        for number, channels in enumerate(_CHANNELS, 1):
            self.add_module(f"pyramid{number}", nn.Sequential(_conv(before, channels, 2), _conv(channels, channels)))
            before = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        scales = []
        for scale in self.children():
            x = scale(x)
            scales.append(x)
        return scales


class _Decoder(nn.Module):
    """From one scale to the next finer one: `(B, C, h, w)` -> `(B, out, 2h, 2w)`."""

    def __init__(self, before: int, inner: int, after: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _conv(before, inner), _Residual(inner), nn.ConvTranspose2d(inner, after, 4, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.convblock(x)
        return out


class _Residual(nn.Module):
    """Five convolutions and a way past them; every second one sees the last channels only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels)
        self.conv2 = _conv(_SKIP, _SKIP)
        self.conv3 = _conv(channels, channels)
        self.conv4 = _conv(_SKIP, _SKIP)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for whole, part in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y = whole(y)
            y = torch.cat([y[:, :-_SKIP], part(y[:, -_SKIP:])], 1)
        out: Tensor = self.prelu(x + self.conv5(y))
        return out


class _Update(nn.Module):
    """Corrects flows and features by the correlations at the ends of the flows, at an eighth of the size.

    Args:
        channels: Of the features.
        scale: How many times as large as that flows and features are.
    """

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convc1 = nn.Conv2d(2 * _LEVELS * (2 * _RADIUS + 1) ** 2, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, 1, 3)
        self.convf2 = nn.Conv2d(40, 20, 3, 1, 1)
        self.conv = nn.Conv2d(84, 68, 3, 1, 1)
        self.gru = self._two(68 + 4 + channels, 76)  # the published name, though there are no gates
        self.feat_head = self._two(76, channels)
        self.flow_head = self._two(76, 4)

    @staticmethod
    def _two(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(before, 76, 3, 1, 1), nn.LeakyReLU(0.1), nn.Conv2d(76, after, 3, 1, 1))

    def forward(self, features: Tensor, flows: Tensor, correlation: Correlation, time: float) -> tuple[Tensor, Tensor]:
        small, inner = flows, features
        if self.scale != 1:
            small, inner = _resized(flows, 1 / self.scale) / self.scale, _resized(features, 1 / self.scale)
        seen = F.leaky_relu(self.convc1(correlation(small, time)), 0.1)
        going = F.leaky_relu(self.convf2(F.leaky_relu(self.convf1(small), 0.1)), 0.1)
        mixed = F.leaky_relu(self.conv(torch.cat([seen, going], 1)), 0.1)
        state = self.gru(torch.cat([mixed, small, inner], 1))
        more_features, more_flows = self.feat_head(state), self.flow_head(state)
        if self.scale != 1:
            more_features = _resized(more_features, self.scale)
            more_flows = self.scale * _resized(more_flows, self.scale)
        return flows + more_flows, features + more_features


@cache
def amt(weights: Path | None, device: str) -> AmtS:
    """The network with its published weights, once a process.

    Raises:
        ValueError: If they are not here and cannot be fetched, or are others.
    """
    return load_published(AmtS(), weights_file("amt_s", weights), "state_dict").to(device)


def _together(features: Tensor, early: Tensor, late: Tensor, flows: Tensor) -> Tensor:
    """What a decoder sees: features, those of both frames brought to the time in question, and the flows."""
    to_first, to_last = flows.chunk(2, 1)
    return torch.cat([features, _warped(early, to_first), _warped(late, to_last), flows], 1)


def _conv(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.PReLU(after))


def _resized(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def _warped(image: Tensor, flow: Tensor) -> Tensor:
    """Fetch each pixel of `(B, C, H, W)` from where its flow `(B, 2, H, W)` points, x before y; edges go on outside."""
    height, width = flow.shape[-2:]
    x = torch.linspace(-1, 1, width, device=flow.device, dtype=flow.dtype) + 2 * flow[:, 0] / (width - 1)
    y = torch.linspace(-1, 1, height, device=flow.device, dtype=flow.dtype)[:, None] + 2 * flow[:, 1] / (height - 1)
    return F.grid_sample(image, torch.stack([x, y], -1), padding_mode="border", align_corners=True)
