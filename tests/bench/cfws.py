#!/usr/bin/python3
"""What does the split of CFWS bring at 8 and at 4 bits? Trains a RepVGG on photographs of CIFAR-10 through the daemon (eight blocks of up to 128 channels; with
--published the network "repvgg" of a quarter of its width, which takes five times as long),
then quantises it on training images in every way that int8 modes offer, at 8 and at 4 bits, and prints accuracy and mean loss on the test images beside float.
Narrower integers than 8 bits are no mode: their rounding is simulated in float, by tests/bench/cfws.c. At 8 bits that simulation is printed beside the int8 kernels.

--state holds the daemon's data; the run may be interrupted and goes on when it is started again:
  tests/bench/cfws.py --state cfws                     # some minutes of one core"""
import argparse, json, os, subprocess, sys

from kept import Kept, add_arguments, dataset_name, register, say

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--images", type=int, default=6000, help="training images")
    p.add_argument("--test", type=int, default=1000)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--calibrate", type=int, default=256, help="training images to calibrate with")
    p.add_argument("--published", action="store_true", help="22 blocks")
    p.add_argument("--nice", type=int, default=10)
    return p.parse_args()


def small():
    """Eight blocks: 3x3 and 1x1 convolution, and the identity where the shape stays, each with batch normalisation."""
    layers, of, channels = [], "input", 3
    for i, (out, stride) in enumerate(((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (128, 2))):
        n, conv = f"b{i}", lambda k: {"type": "conv", "name": f"{n}.{k}", "from": of, "out": out, "kernel": k, "stride": stride, "bias": False}
        layers += [conv(3), {"type": "batchnorm", "name": f"{n}.bn3"}, conv(1), {"type": "batchnorm", "name": f"{n}.bn1"}, {"type": "add", "name": f"{n}.sum", "from": [f"{n}.bn3", f"{n}.bn1"]}]
        last = f"{n}.sum"
        if out == channels and stride == 1:
            layers += [{"type": "batchnorm", "name": f"{n}.identity", "from": of}, {"type": "add", "name": f"{n}.all", "from": [last, f"{n}.identity"]}]
        layers.append({"type": "relu", "name": n})
        of, channels = n, out
    return {"name": "repvgg-small", "layers": layers + [{"type": "globalpool"}, {"type": "flatten"}, {"type": "linear", "out": "classes"}]}


def trained(d, a):
    """The checkpoint's file and that of the data set."""
    spec = {"dataset": register(d, a.images, a.test), "name": f"cfws-{a.images}-{a.epochs}{'-published' if a.published else ''}", "was": False, "limits": {"nice": a.nice, "threads": 1},
            "model": {"arch": "repvgg", "width": 25} if a.published else small(),
            "train": {"epochs": a.epochs, "batch": 64, "seed": 1, "augment": ["flip", "crop"],
                      "optimizer": {"type": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005}, "schedule": {"type": "cosine"}}}
    there = [j for j in d.client.get("/v1/jobs?limit=500").json["items"] if j["name"] == spec["name"]]
    job = there[0] if there else d.submit(**spec)
    say(f"training {spec['name']}")
    job = d.wait_job(job["id"], timeout=36000)
    file = os.path.join(a.state, "repvgg.wasd")
    with open(file, "wb") as f:
        f.write(d.client.get(f"/v1/checkpoints/{job['best']['checkpoint']}/file?format=wasd").body)
    return file


def measured(a, checkpoint, data):
    program = os.path.join(a.state, "cfws")
    lib = os.path.join(os.environ.get("WASD_BUILD", os.path.join(TOP, "build")), "obj")
    subprocess.run(["cc", "-O2", "-std=c11", "-D_GNU_SOURCE", "-fopenmp", "-I", f"{TOP}/core", "-I", f"{TOP}/core/include", f"{TOP}/tests/bench/cfws.c", f"{lib}/libcore.a", f"{lib}/libbase.a",
                    "-ldnnl", "-lopenblas", "-larchive", "-ljpeg", "-lspng", "-lz", "-lm", "-lcjson", "-lgnutls", "-lpthread", "-o", program], check=True)
    out = subprocess.run([program, checkpoint, data, str(a.calibrate)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def main():
    a = arguments()
    os.makedirs(a.state, exist_ok=True)
    with Kept(a.state) as d:
        checkpoint = trained(d, a)
        data = os.path.join(a.state, "datasets", dataset_name(a.images, a.test), "1.wds")
    rows = measured(a, checkpoint, data)
    if a.json:
        print(json.dumps(rows))
        return
    print("| Bits | Weights | Activations | Accuracy, % | Loss | int8 kernels: accuracy, % |\n| --- | --- | --- | ---: | ---: | ---: |")
    for r in rows:
        print(f"| {r['bits']} | {r['weights']} | {r['activations']} | {100 * r['accuracy']:.1f} | {r['loss']:.4f} | {100 * r['kernels']:.1f} |" if "kernels" in r else
              f"| {r['bits']} | {r['weights']} | {r['activations']} | {100 * r['accuracy']:.1f} | {r['loss']:.4f} | |")


if __name__ == "__main__":
    sys.exit(main())
