"""Checks artifacts with plain PyTorch: python pytorch.py ARTIFACT...

For each, the TorchScript module must reproduce the golden outputs for several batch sizes, and so
must a network built here from model.json and the named parameters. Prints the job's name and the
model's digest, computed here from the parameters.
"""

import hashlib
import json
import math
import pathlib
import struct
import sys
import warnings

warnings.filterwarnings("ignore", message=".*NumPy.*")  # nothing here needs it
warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)

import torch
from torch.nn import functional as F


def read_safetensors(path):
    """The format is a length, a JSON header, and the tensors' bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, info in header.items():
        assert info["dtype"] == "F32", name
        begin, end = info["data_offsets"]
        body = bytearray(data[8 + length + begin : 8 + length + end])
        assert len(body) == 4 * math.prod(info["shape"]), name
        tensors[name] = torch.frombuffer(body, dtype=torch.float32).reshape(info["shape"])
    return tensors, metadata


def model_sha256(tensors):
    sha = hashlib.sha256(b"trainyard-model-v1\n")
    for name, tensor in sorted((name.encode(), tensor) for name, tensor in tensors.items()):
        data = struct.pack(f"<{tensor.numel()}f", *tensor.flatten().tolist())
        sha.update(struct.pack("<I", len(name)) + name + struct.pack("<I", 3) + b"F32")
        sha.update(struct.pack("<I", tensor.dim()) + struct.pack(f"<{tensor.dim()}Q", *tensor.shape))
        sha.update(struct.pack("<Q", len(data)) + data)
    return sha.hexdigest()


def forward(architecture, parameters, x):
    """The network of model.json, written down a second time."""
    (kind, model), = architecture.items()
    activation = {"relu": F.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu}[model["activation"]]

    def of(name):
        return parameters[f"{name}.weight"], parameters[f"{name}.bias"]

    for index, block in enumerate(model.get("blocks", [])):
        weight, bias = of(f"blocks.{index}.conv")
        x = F.conv2d(x, weight, bias, padding=block["kernelSize"] // 2)
        if "groups" in block:
            x = F.group_norm(x, block["groups"], *of(f"blocks.{index}.norm"))
        x = activation(x)
        if "pool" in block:
            x = F.max_pool2d(x, block["pool"])
    x = x.flatten(1)
    for index in range(len(model["hidden"])):
        x = activation(F.linear(x, *of(f"layers.{index}")))
    return F.linear(x, *of(f"layers.{len(model['hidden'])}"))


def check(artifact):
    model = json.loads((artifact / "model.json").read_text())
    parameters, _ = read_safetensors(artifact / "model.safetensors")
    golden, tolerance = read_safetensors(artifact / "golden.safetensors")
    rtol, atol = float(tolerance["rtol"]), float(tolerance["atol"])
    assert rtol == 1e-5 and 1e-6 <= atol < 1e-2, tolerance
    digest = model_sha256(parameters)
    assert digest == model["modelSha256"], f"{artifact}: the parameters have the digest {digest}"

    module = torch.jit.load(artifact / "model.pt").eval()
    inputs, outputs = golden["inputs"], golden["outputs"]
    batches = [(inputs, outputs), (inputs[:1], outputs[:1]), (inputs.repeat(67, *[1] * (inputs.dim() - 1)), outputs.repeat(67, 1))]
    with torch.no_grad():
        for rows, expected in batches:
            close = dict(rtol=rtol, atol=atol)
            torch.testing.assert_close(module(rows), expected, **close)
            torch.testing.assert_close(forward(model["architecture"], parameters, rows), expected, **close)
    print(model["job"], digest)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for argument in sys.argv[1:]:
        check(pathlib.Path(argument))
