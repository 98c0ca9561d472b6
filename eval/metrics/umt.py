"""UMT's ViT-L/16, which names actions (Li et al., Unmasked Teacher, arXiv 2303.16058; fine-tuned on Kinetics-400).

A plain vision transformer on the patches of 16 frames at once: 3136 tokens, no class token, features of all of them
averaged. Modules bear the published names, so `l16_ptk710_ftk710_ftk400_f16_res224.pth` loads.

Letters: B videos, T frames, H height, W width, P patches along a side of a frame, L tokens, D channels, K classes.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eval.metrics.checkpoints import load_published
from eval.weights import weights_file

__all__ = ["FRAMES", "SIDE", "Umt", "kinetics_classes", "sine_table", "umt"]

FRAMES, SIDE = 16, 224
_TAUGHT_FRAMES = 8  # of the table of positions that training began with


class Umt(nn.Module):
    """The classifier; the defaults are the sizes of the published L/16.

    Args:
        side: Of the frames, in pixels.
        patch: Side of a patch, in pixels.
        frames: Of a video.
        width: Channels.
        layers: Blocks.
        heads: Of attention.
        classes: Kinetics-400 has 400.
    """

    def __init__(
        self,
        side: int = SIDE,
        patch: int = 16,
        frames: int = FRAMES,
        width: int = 1024,
        layers: int = 24,
        heads: int = 16,
        classes: int = 400,
    ) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch))})
        self.pos_embed = nn.Parameter(sine_table(side // patch, frames, width))
        self.blocks = nn.ModuleList([_Block(width, heads) for _ in range(layers)])
        self.fc_norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalized frames `(B, T, 3, H, W)` -> `(B, K)`, to be put through a sigmoid or softmax."""
        x = self.patch_embed["proj"](frames.transpose(1, 2))  # B D T P P
        x = x.flatten(2).transpose(1, 2) + self.pos_embed  # B L D
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.fc_norm(x.mean(1)))
        return out


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


class _Attention(nn.Module):
    """Attention whose queries and values have a bias each, and keys none."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        parts = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))  # B L 3 heads D/heads
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each B heads L D/heads
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


def sine_table(patches: int, frames: int, width: int) -> Tensor:
    """Positions before training: sines and cosines of the place in 8 frames, stretched to more frames line by line.

    Args:
        patches: Along a side of a frame, P.
        frames: T.
        width: Channels, D.

    Returns:
        `(1, T * P * P, D)`.
    """
    place = torch.arange(_TAUGHT_FRAMES * patches**2, dtype=torch.float64)[:, None]
    channel = torch.arange(width, dtype=torch.float64)
    angle = place / 10000 ** (2 * (channel // 2) / width)
    table = torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()  # 8*P*P D
    lines = table.reshape(_TAUGHT_FRAMES, -1, width).permute(1, 2, 0)  # P*P D 8
    return F.interpolate(lines, size=frames, mode="linear").permute(2, 0, 1).reshape(1, -1, width)


@cache
def umt(weights: Path | None, device: str) -> Umt:
    """The network with its published weights, once a process.

    Raises:
        ValueError: If they are not here and cannot be fetched, or are others.
    """
    return load_published(Umt(), weights_file("umt_l16_k400", weights), "model", ("pos_embed",)).to(device)


@cache
def kinetics_classes() -> tuple[str, ...]:
    """Names of the classes of Kinetics-400, lower case, in the order of the network's outputs.

    The names are torchvision's. The order is not the alphabet's, which other networks have, but that of the annotations
    which this one was trained on and VBench reads its answers by.
    """
    from torchvision.models.video import MViT_V1_B_Weights

    names = MViT_V1_B_Weights.KINETICS400_V1.meta["categories"]
    return tuple(names[int(place)].lower() for place in _ORDER.split())


# Class by class its place in the alphabet.
_ORDER = """
267 192 94 228 54 280 352 57 98 170 28 212 327 363 117 38 3 234 12 315 395 253 161 274 294 338 111 306 107 92 116 231
270 190 364 214 334 249 370 312 223 172 297 366 29 307 378 275 292 156 241 206 15 174 127 91 397 211 42 134 180 87 90
265 153 58 120 244 296 381 183 36 80 177 350 20 311 305 133 76 8 61 27 288 86 393 349 308 13 260 97 259 30 285 304 60
179 106 324 147 149 49 269 17 123 318 201 128 248 130 78 343 284 18 319 59 302 126 301 266 45 124 131 383 360 25 316
371 346 389 268 314 362 43 222 239 250 230 351 376 299 246 139 185 191 144 330 113 163 323 175 226 140 391 358 356 276
341 1 26 154 347 19 215 256 68 359 152 377 313 348 160 44 51 290 208 150 243 35 136 277 300 257 278 159 32 204 355 89
2 236 396 40 320 109 217 188 251 353 262 326 65 6 52 340 361 88 157 83 55 321 382 110 255 337 114 155 233 165 81 141
298 158 225 122 365 102 271 368 344 309 372 62 168 162 198 186 93 379 145 390 135 332 200 73 96 108 178 264 10 258 336
70 261 329 342 195 16 33 325 37 333 169 196 115 121 148 392 77 374 227 203 252 199 103 119 209 237 331 129 47 112 289
345 242 72 95 205 375 132 219 137 310 335 166 386 273 216 182 207 394 118 5 64 339 322 48 193 24 232 224 142 254 279
151 11 373 380 7 221 328 82 387 9 167 100 41 238 283 388 385 399 56 263 46 39 187 50 21 164 85 0 66 79 63 84 104 367
357 138 281 67 23 247 105 75 53 125 369 287 293 176 272 74 181 14 202 317 71 210 398 291 99 213 235 197 295 171 286
245 101 303 220 34 354 189 143 229 22 282 173 384 146 194 240 184 31 69 4 218
"""
