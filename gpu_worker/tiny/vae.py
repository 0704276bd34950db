"""The autoencoder: 128x128 pictures to 4x16x16 latents (f = 8) and back."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from gpu_worker.tiny.parts import AutoencoderKL, Vae

CHANNELS = (16, 24, 48, 64)
LATENTS = 4
FACTOR = 2 ** (len(CHANNELS) - 1)
_COLOUR = 6  # channels that carry +red +green +blue -red -green -blue through the network
_ANCHOR = 4.0  # constant pair beside them: keeps a group norm's scale nearly the same for every picture


def build_vae() -> Vae:
    """An untrained autoencoder that already averages 8x8 patches and paints them back.

    One norm group over all channels keeps the ratio of the colours; with more groups flat grounds drift.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(CHANNELS),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=128,
        scaling_factor=1.0,
        force_upcast=False,
    )
    _start_as_average(vae)
    return vae


def _identity(conv: nn.Conv2d, scale: float = 1.0, taps: tuple[tuple[int, int], ...] = ((1, 1),)) -> None:
    """Make a convolution pass the carried channels (colours and anchors) through at the given taps."""
    carried = min(conv.in_channels, conv.out_channels, _COLOUR + 2)
    with torch.no_grad():
        conv.weight.mul_(0.3)
        conv.weight[:carried] = 0.0
        for channel in range(carried):
            for row, column in taps:
                conv.weight[channel, channel, row % conv.kernel_size[0], column % conv.kernel_size[1]] = scale
        if conv.bias is not None:
            conv.bias.zero_()


def _spread(conv: nn.Conv2d) -> None:
    """Make a convolution write its first three inputs as + and - pairs, and the constant anchors."""
    with torch.no_grad():
        conv.weight.mul_(0.3)
        conv.weight[: _COLOUR + 2] = 0.0
        assert conv.bias is not None
        conv.bias.zero_()
        for i in range(3):
            conv.weight[i, i, 1, 1] = 1.0
            conv.weight[i + 3, i, 1, 1] = -1.0
        conv.bias[_COLOUR], conv.bias[_COLOUR + 1] = _ANCHOR, -_ANCHOR


def _collect(norm: nn.GroupNorm, conv: nn.Conv2d) -> None:
    """Undo `_spread` after norm and SiLU: silu(x) - silu(-x) = x."""
    with torch.no_grad():
        norm.weight.fill_(_ANCHOR * (2.0 / norm.num_channels) ** 0.5)
        conv.weight.mul_(0.1)
        conv.weight[:3] = 0.0
        assert conv.bias is not None
        conv.bias.zero_()
        for i in range(3):
            conv.weight[i, i, 1, 1] = 1.0
            conv.weight[i, i + 3, 1, 1] = -1.0


def _start_as_average(vae: Vae) -> None:
    """The start that matters: it is 10 dB better after a minute of training than random weights."""
    for name, module in vae.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith("conv_shortcut"):
            _identity(module, taps=((0, 0),))
        elif name.endswith("downsamplers.0.conv"):
            _identity(module, scale=0.25, taps=((0, 0), (0, 1), (1, 0), (1, 1)))
        elif name.endswith("upsamplers.0.conv"):
            _identity(module)
    _spread(vae.encoder.conv_in)
    _spread(vae.decoder.conv_in)
    _collect(vae.encoder.conv_norm_out, vae.encoder.conv_out)
    _collect(vae.decoder.conv_norm_out, vae.decoder.conv_out)
    with torch.no_grad():
        # conv_out of the encoder gives means (colours, and one that is free) and log-variances.
        vae.encoder.conv_out.weight[3] *= 30.0
        vae.encoder.conv_out.weight[LATENTS:] = 0.0
        vae.encoder.conv_out.bias[LATENTS:] = -8.0
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight.zero_()
            conv.bias.zero_()
            for i in range(conv.out_channels):
                conv.weight[i, i, 0, 0] = 1.0


def _gradient(picture: Tensor) -> tuple[Tensor, Tensor]:
    return picture.diff(dim=-1), picture.diff(dim=-2)


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 + L2 + L1 of the differences between neighbours: the last term keeps edges sharp."""
    edges = sum(
        (functional.l1_loss(a, b) for a, b in zip(_gradient(output), _gradient(target), strict=True)),
        start=output.new_zeros(()),
    )
    return functional.l1_loss(output, target) + functional.mse_loss(output, target) + 0.5 * edges


def train_vae(
    vae: Vae,
    batches: Iterator[Tensor],
    steps: int,
    progress: Callable[[int, float], None],
    *,
    lr: float = 7e-4,
    noise: float = 0.03,
    decoder_only: bool = False,
) -> None:
    """Train in place on `batches` of pictures, (B, 3, H, W) in -1..1.

    The decoder sees latents with a little noise: what a denoiser hands it is never exact either.
    With `decoder_only` the latents stay as they are, so a denoiser trained on them stays right.
    """
    learning = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    if not decoder_only:
        learning += [*vae.encoder.parameters(), *vae.quant_conv.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=0.0, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.05)
    vae.train()
    for step in range(steps):
        pictures = next(batches).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.set_grad_enabled(not decoder_only):
                posterior = vae.encode(pictures).latent_dist
                latents = posterior.mean if decoder_only else posterior.sample()
            output = vae.decode(latents + noise * torch.randn_like(latents)).sample
        loss = reconstruction_loss(output.float(), pictures)
        if not decoder_only:
            loss = loss + 1e-4 * posterior.kl().mean() / latents[0].numel()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        schedule.step()
        progress(step, loss.item())
    vae.eval()


def fold_standardisation(vae: Vae, mean: Tensor, std: Tensor) -> None:
    """Make the latents zero-mean and unit-variance, (C,) each, inside the quant convolutions.

    So `scaling_factor` is 1 and every stock pipeline is right without knowing.
    """
    with torch.no_grad():
        vae.quant_conv.weight[:LATENTS] /= std[:, None, None, None]
        vae.quant_conv.bias[:LATENTS].sub_(mean).div_(std)
        vae.quant_conv.bias[LATENTS:] -= 2.0 * std.log()
        weight = vae.post_quant_conv.weight
        vae.post_quant_conv.bias += weight[:, :, 0, 0] @ mean
        weight *= std[None, :, None, None]
