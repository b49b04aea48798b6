#!/usr/bin/python3
"""PyTorch's side of tests/bench/peers.py, which runs this file once per measurement. Prints one JSON object.

    torch_peer.py shape NETWORK                    parameters and multiply-adds of the plain network
    torch_peer.py train NETWORK --layout nchw|channels-last --precision fp32|bf16-autocast|bf16-weights [--batch N] [--threads N] ...
    torch_peer.py export NETWORK FILE --batch N    an ONNX model in evaluation mode, batch norm folded into the convolutions
    torch_peer.py versions

The networks are those of core/models with plain weights: what the reference calls PW, without alphas. All layers have the same shapes; only
where PyTorch is faster with another form (activations and additions in place), that form is used."""
import argparse, json, resource, time

import torch
import torch.nn.functional as F
from torch import nn

CLASSES, SIDE = 10, 32


class GlobalMean(nn.Module):
    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


class Block(nn.Module):
    """ResNet's basic block; a shortcut that changes the shape is a 3x3 convolution here."""
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = None if stride == 1 and i == o else nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        return F.relu(y.add_(x if self.short is None else self.short(x)), inplace=True)


class Inception(nn.Module):
    def __init__(self, i, n1, r3, n3, r5, n5, pool):
        super().__init__()
        self.a = unit(i, n1, 1)
        self.b = nn.Sequential(unit(i, r3, 1), unit(r3, n3, 3))
        self.c = nn.Sequential(unit(i, r5, 1), unit(r5, n5, 5))
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), unit(i, pool, 1))

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(x)], 1)


class Residual(nn.Module):
    """Adds the input where the shapes allow it. drop: drop-connect, per sample, only in training."""
    def __init__(self, body, drop=0.0):
        super().__init__()
        self.body, self.keep = body, 1 - drop

    def forward(self, x):
        y = self.body(x)
        if self.training and self.keep < 1:
            y = y * torch.empty(y.shape[0], 1, 1, 1, dtype=y.dtype).bernoulli_(self.keep).div_(self.keep)
        return y + x


class ReLU6(nn.Module):
    """Like nn.ReLU6, whose backward this PyTorch lacks in bf16."""
    def forward(self, x):
        return F.relu6(x, inplace=True) if x.dtype == torch.float32 else torch.clamp(x, 0, 6)


def unit(i, o, k):
    return nn.Sequential(nn.Conv2d(i, o, k, 1, k // 2), nn.BatchNorm2d(o), nn.ReLU(True))


def resnet18():
    layers, i = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(True)], 64
    for o, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(i, o, stride), Block(o, o, 1)]
        i = o
    return nn.Sequential(*layers, GlobalMean(), nn.Linear(512, CLASSES))


def vgg16():
    layers, i = [], 3
    for o in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers.append(unit(i, o, 3) if o else nn.MaxPool2d(2))
        i = o or i
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(0.5), nn.Linear(512, 512), nn.ReLU(True),
                         nn.Dropout(0.5), nn.Linear(512, CLASSES))


def googlenet():
    layers, i = [unit(3, 192, 3)], 192
    for row in ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None, (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64),
                (128, 128, 256, 24, 64, 64), (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None, (256, 160, 320, 32, 128, 128),
                (384, 192, 384, 48, 128, 128)):
        if row is None:
            layers.append(nn.MaxPool2d(3, 2, 1))
            continue
        layers.append(Inception(i, *row))
        i = row[0] + row[2] + row[4] + row[5]
    return nn.Sequential(*layers, GlobalMean(), nn.Linear(1024, CLASSES))


def conv_bn6(i, o, k=1, stride=1, groups=1, lite=False, act=True):
    """Convolution, batch norm and ReLU6; lite: EfficientNet's batch norm, and no bias."""
    bn = nn.BatchNorm2d(o, eps=1e-3, momentum=0.01) if lite else nn.BatchNorm2d(o)
    return [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=not lite), bn] + ([ReLU6()] if act else [])


def mobilenetv2():
    layers, i = conv_bn6(3, 32), 32
    for t, o, n, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1)):
        for b in range(n):
            stride = 1 if b else first
            body = nn.Sequential(*conv_bn6(i, t * i), *conv_bn6(t * i, t * i, 3, stride, t * i), *conv_bn6(t * i, o, act=False))
            layers.append(Residual(body) if stride == 1 and i == o else body)
            i = o
    return nn.Sequential(*layers, *conv_bn6(320, 1280), nn.AdaptiveAvgPool2d(1), nn.Conv2d(1280, CLASSES, 1), nn.Flatten())


def efficientnet_lite0():
    layers, i, block = conv_bn6(3, 32, 3, 2, lite=True), 32, 0
    for n, k, first, t, o in ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
                              (1, 3, 1, 6, 320)):
        for b in range(n):
            stride = 1 if b else first
            body = nn.Sequential(*(conv_bn6(i, t * i, lite=True) if t != 1 else []), *conv_bn6(t * i, t * i, k, stride, t * i, lite=True),
                                 *conv_bn6(t * i, o, lite=True, act=False))
            layers.append(Residual(body, 0.2 * block / 7) if stride == 1 and i == o else body)
            i, block = o, block + 1
    return nn.Sequential(*layers, *conv_bn6(320, 1280, lite=True), GlobalMean(), nn.Dropout(0.2), nn.Linear(1280, CLASSES))


NETWORKS = {f.__name__: f for f in (resnet18, vgg16, googlenet, mobilenetv2, efficientnet_lite0)}


def shape(network):
    """Counts multiply-adds during execution, so that a wrong stride or map size shows even if the parameters agree."""
    net, macs = NETWORKS[network]().eval(), 0

    def count(layer, _, out):
        nonlocal macs
        macs += out.numel() * (layer.in_features if isinstance(layer, nn.Linear) else layer.weight[0].numel())
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            m.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, 3, SIDE, SIDE))
    return {"params": sum(p.numel() for p in net.parameters()), "macs": macs}


class Masters:
    """SGD on fp32 masters of bf16 weights; parameters that stay fp32 (batch norm) are updated in place."""
    def __init__(self, net):
        self.low = [p for p in net.parameters() if p.dtype == torch.bfloat16]
        self.master = [p.detach().float() for p in self.low]
        full = [p for p in net.parameters() if p.dtype != torch.bfloat16]
        self.full, self.sgd = full, torch.optim.SGD(self.master + full, lr=0.01, momentum=0.9)

    def zero_grad(self, set_to_none):
        for p in self.low + self.full:
            p.grad = None

    @torch.no_grad()
    def step(self):
        for p, m in zip(self.low, self.master):
            m.grad = p.grad.float()
        self.sgd.step()
        for p, m in zip(self.low, self.master):
            p.copy_(m)


def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def train(a):
    torch.set_num_threads(a.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    net = NETWORKS[a.network]().train()
    x, y = torch.randn(a.batch, 3, SIDE, SIDE), torch.randint(0, CLASSES, (a.batch,))
    if a.precision == "bf16-weights":
        for m in net.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                m.bfloat16()
        x = x.bfloat16()
    if a.layout == "channels-last":
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optim = Masters(net) if a.precision == "bf16-weights" else torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    autocast = a.precision == "bf16-autocast"

    def step():
        optim.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = net(x)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        optim.step()
        return loss
    # PyTorch's first steps mostly fault memory in, so warm-up continues, within limits, while they do.
    begin, warm, settled = time.perf_counter(), 0, False
    while (warm < a.warmup or not settled and warm < 2 * a.warmup) and (warm < 2 or time.perf_counter() - begin < a.warmup_seconds):
        before = page_faults()
        step()
        settled, warm = page_faults() - before < 1000, warm + 1
    faults, cpu, begin, best, steps = page_faults(), time.process_time(), time.perf_counter(), float("inf"), 0
    while steps < a.steps and (steps < 1 or time.perf_counter() - begin < a.seconds):
        t = time.perf_counter()
        loss = step()
        best = min(best, time.perf_counter() - t)
        steps += 1
    wall = time.perf_counter() - begin
    return {"images_per_s": a.batch * steps / wall, "ms_best_step": best * 1e3, "cpu_ms_per_step": (time.process_time() - cpu) * 1e3 / steps,
            "steps": steps, "warmup": warm, "loss": loss.item(), "page_faults_per_step": (page_faults() - faults) / steps,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def export(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    net = NETWORKS[a.network]().eval()
    torch.onnx.export(net, torch.randn(a.batch, 3, SIDE, SIDE), a.file, opset_version=13, input_names=["x"], output_names=["logits"])
    return {"file": a.file}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    for name in ("shape", "train", "export"):
        p = sub.add_parser(name)
        p.add_argument("network", choices=NETWORKS)
        if name == "export":
            p.add_argument("file")
        p.add_argument("--batch", type=int, default=128)
        p.add_argument("--threads", type=int, default=2)
        if name == "train":
            p.add_argument("--layout", choices=("nchw", "channels-last"), default="nchw")
            p.add_argument("--precision", choices=("fp32", "bf16-autocast", "bf16-weights"), default="fp32")
            p.add_argument("--steps", type=int, default=3, help="timed steps")
            p.add_argument("--seconds", type=float, default=20, help="use fewer timed steps if they take longer than this")
            p.add_argument("--warmup", type=int, default=4, help="warm-up steps; up to twice as many while they still fault memory in")
            p.add_argument("--warmup-seconds", type=float, default=40, help="use fewer warm-up steps (at least two) if they take longer than this")
    sub.add_parser("versions")
    a = ap.parse_args()
    if a.command == "shape":
        out = shape(a.network)
    elif a.command == "versions":
        config = torch.__config__.show()
        onednn = next((line.split("MKL-DNN v")[1].split()[0] for line in config.splitlines() if "MKL-DNN v" in line), "none")
        kernels = next((line.rsplit(":", 1)[1].strip() for line in config.splitlines() if "CPU capability" in line), "?")
        out = {"torch": torch.__version__, "onednn": onednn, "aten_kernels": kernels}
    else:
        out = train(a) if a.command == "train" else export(a)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
