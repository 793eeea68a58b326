"""The published VQGAN, its losses, PatchGAN and LPIPS in torch, written from PAPERS 3: the
oracle of the codec tests.

Module names give the published state-dict keys. BatchNorm of the published PatchGAN is GroupNorm
here, as in vilg."""

# torch is there on Python 3.11 only (pyproject.toml); elsewhere the types are checked without it
# pyright: reportMissingImports=false

import torch
import torch.nn.functional as F
from torch import nn


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


def swish(x):
    return x * torch.sigmoid(x)


class Block(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.norm1, self.conv1 = norm(i), nn.Conv2d(i, o, 3, padding=1)
        self.norm2, self.conv2 = norm(o), nn.Conv2d(o, o, 3, padding=1)
        if i != o:
            self.nin_shortcut = nn.Conv2d(i, o, 1)

    def forward(self, x):
        h = self.conv2(swish(self.norm2(self.conv1(swish(self.norm1(x))))))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm = norm(c)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x):
        b, c, y, w = x.shape
        h = self.norm(x)
        q, k, v = (m(h).reshape(b, c, y * w).transpose(1, 2) for m in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return x + self.proj_out(mixed.transpose(1, 2).reshape(b, c, y, w))


class Down(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def middle(c):
    mid = nn.Module()
    mid.block_1, mid.attn_1, mid.block_2 = Block(c, c), Attention(c), Block(c, c)
    return mid


def through(stages, x):
    for stage in stages:
        x = stage(x)
    return x


class Encoder(nn.Module):
    def __init__(self, ch, mult, blocks, attention, resolution, z):
        super().__init__()
        self.conv_in, self.down, c = nn.Conv2d(3, ch, 3, padding=1), nn.ModuleList(), ch
        for level, m in enumerate(mult):
            stage = nn.Module()
            stage.block, stage.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks):
                stage.block.append(Block(c, ch * m))
                c = ch * m
                if resolution // 2**level in attention:
                    stage.attn.append(Attention(c))
            if level < len(mult) - 1:
                stage.downsample = Down(c)
            self.down.append(stage)
        self.mid, self.norm_out, self.conv_out = middle(c), norm(c), nn.Conv2d(c, z, 3, padding=1)

    def forward(self, x):
        x = self.conv_in(x)
        for stage in self.down:
            for i, block in enumerate(stage.block):
                x = block(x)
                x = stage.attn[i](x) if len(stage.attn) else x
            x = stage.downsample(x) if hasattr(stage, "downsample") else x
        x = through((self.mid.block_1, self.mid.attn_1, self.mid.block_2), x)
        return self.conv_out(swish(self.norm_out(x)))


class Decoder(nn.Module):
    def __init__(self, ch, mult, blocks, attention, resolution, z):
        super().__init__()
        c = ch * mult[-1]
        self.conv_in, self.mid, stages = nn.Conv2d(z, c, 3, padding=1), middle(c), []
        for level in reversed(range(len(mult))):
            stage = nn.Module()
            stage.block, stage.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(blocks + 1):
                stage.block.append(Block(c, ch * mult[level]))
                c = ch * mult[level]
                if resolution // 2**level in attention:
                    stage.attn.append(Attention(c))
            if level > 0:
                stage.upsample = Up(c)
            stages.insert(0, stage)
        self.up, self.norm_out, self.conv_out = (
            nn.ModuleList(stages),
            norm(c),
            nn.Conv2d(c, 3, 3, padding=1),
        )

    def forward(self, z):
        x = through((self.conv_in, self.mid.block_1, self.mid.attn_1, self.mid.block_2), z)
        for stage in reversed(self.up):
            for i, block in enumerate(stage.block):
                x = block(x)
                x = stage.attn[i](x) if len(stage.attn) else x
            x = stage.upsample(x) if hasattr(stage, "upsample") else x
        return self.conv_out(swish(self.norm_out(x)))


class VQGAN(nn.Module):
    def __init__(self, kind, ch, mult, blocks, attention, resolution, z, width, vocabulary):
        super().__init__()
        shape = (ch, mult, blocks, attention, resolution, z)
        self.encoder, self.decoder = Encoder(*shape), Decoder(*shape)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(z, width, 1), nn.Conv2d(width, z, 1)
        self.quantize = nn.Module()
        if kind == "gumbel":
            self.quantize.proj, self.quantize.embed = (
                nn.Conv2d(width, vocabulary, 1),
                nn.Embedding(vocabulary, width),
            )
        else:
            self.quantize.embedding = nn.Embedding(vocabulary, width)

    def latents(self, x):
        return self.quant_conv(self.encoder(x))

    def codes(self, latents):
        if hasattr(self.quantize, "proj"):
            return self.quantize.proj(latents).argmax(1)
        flat = latents.permute(0, 2, 3, 1)
        return ((flat[..., None, :] - self.quantize.embedding.weight) ** 2).sum(-1).argmin(-1)

    def embeddings(self, codes):
        table = self.quantize.embed if hasattr(self.quantize, "embed") else self.quantize.embedding
        return table(codes).permute(0, 3, 1, 2)

    def paint(self, embeddings):
        return self.decoder(self.post_quant_conv(embeddings))


class PatchGAN(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        stages, c = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
        for i in range(1, layers + 1):
            o = width * min(2**i, 8)
            stages += [
                nn.Conv2d(c, o, 4, 2 if i < layers else 1, 1, bias=False),
                norm(o),
                nn.LeakyReLU(0.2),
            ]
            c = o
        self.main = nn.Sequential(*stages, nn.Conv2d(c, 1, 4, 1, 1))

    def forward(self, x):
        return self.main(x)


class LPIPS(nn.Module):
    """Keys net.slice{1-5}.{n} with n counting VGG16's features, lin{0-4}.model.1."""

    def __init__(self):
        super().__init__()
        self.net, index, c = nn.Module(), 0, 3
        for s, widths in enumerate([(64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3]):
            stage = nn.Sequential()
            if s > 0:
                stage.add_module(str(index), nn.MaxPool2d(2))
                index += 1
            for w in widths:
                stage.add_module(str(index), nn.Conv2d(c, w, 3, padding=1))
                stage.add_module(str(index + 1), nn.ReLU())
                index, c = index + 2, w
            setattr(self.net, f"slice{s + 1}", stage)
            head = nn.Module()
            head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(c, 1, 1, bias=False))
            setattr(self, f"lin{s}", head)

    def forward(self, a, b):
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        a, b = (((x.permute(0, 2, 3, 1) - shift) / scale).permute(0, 3, 1, 2) for x in (a, b))
        total = 0
        for s in range(5):
            stage = getattr(self.net, f"slice{s + 1}")
            a, b = stage(a), stage(b)
            unit = [x / (torch.sqrt((x**2).sum(1, keepdim=True)) + 1e-10) for x in (a, b)]
            total = (
                total
                + getattr(self, f"lin{s}").model[1]((unit[0] - unit[1]) ** 2).mean((2, 3))[:, 0]
            )
        return total


def randomize(module, seed, scale=1.0):
    """Every parameter random, norms about 1 and 0, so that a mistaken layout cannot hide behind a
    symmetric initial value.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        fan = p[0].numel() if p.ndim > 1 else 1
        if "norm" in name or (p.ndim == 1 and isinstance(module, PatchGAN)):
            value = (1.0 if name.endswith("weight") else 0.0) + 0.2 * noise
        elif p.ndim == 1:
            value = 0.2 * noise
        else:
            value = scale * noise / fan**0.5 if p.ndim == 4 else scale * noise
        p.data.copy_(value)
    return module
