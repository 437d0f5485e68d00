"""Writes gradients.json: what PyTorch computes for small networks from weights and batches that a
formula gives, so that the fixture holds results only.

    python -m venv venv
    venv/bin/pip install torch==2.13.0 numpy==2.4.6
    venv/bin/python trainer/tests/local/bits/gradients.py

Runs on the CPU; any build of torch 2.13.0 will do. The file is checked in, so tests need none of this.
"""

import json
from pathlib import Path

import torch
from torch import nn

ROWS, STEPS, LEARNING_RATE = 7, 3, 0.05
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
MLP = {"hidden": [5, 3], "dropout": 0.0}
CNN = {
    "blocks": [
        {"channels": 4, "kernelSize": 3, "groups": 2, "pool": 2},
        {"channels": 3, "kernelSize": 3, "groups": None, "pool": None},
    ],
    "hidden": [4],
    "dropout": 0.0,
}
CASES = [
    ("binary", "mlp", "relu"),
    ("multiclass", "mlp", "tanh"),
    ("regression", "mlp", "gelu"),
    ("binary", "cnn", "tanh"),
    ("multiclass", "cnn", "relu"),
    ("regression", "cnn", "sigmoid"),
]


def formula(count, factor, offset, modulus, scale):
    """Multiples of a power of two, so that they are the same in every language."""
    return torch.tensor([((i * factor + offset) % modulus - modulus // 2) / scale for i in range(count)])


def network(kind, model, activation, outputs):
    """Modules in the order of the layers, with names for those that learn."""
    layers, inputs = [], 4
    if kind == "cnn":
        channels, height, width = 1, 6, 5
        for index, block in enumerate(model["blocks"]):
            kernel = block["kernelSize"]
            layers.append((f"blocks.{index}.conv", nn.Conv2d(channels, block["channels"], kernel, padding=kernel // 2)))
            channels = block["channels"]
            if block["groups"]:
                layers.append((f"blocks.{index}.norm", nn.GroupNorm(block["groups"], channels)))
            layers.append((None, ACTIVATIONS[activation]()))
            if block["pool"]:
                layers.append((None, nn.MaxPool2d(block["pool"])))
                height, width = height // block["pool"], width // block["pool"]
        layers.append((None, nn.Flatten()))
        inputs = channels * height * width
    for index, outs in enumerate([*model["hidden"], outputs]):
        layers.append((f"layers.{index}", nn.Linear(inputs, outs)))
        if index < len(model["hidden"]):
            layers.append((None, ACTIVATIONS[activation]()))
        inputs = outs
    return layers


def summed_loss(task, outputs, step):
    if task == "multiclass":
        labels = torch.tensor([(7 * row + step) % 3 for row in range(ROWS)])
        return nn.functional.cross_entropy(outputs, labels, reduction="sum")
    if task == "binary":
        labels = torch.tensor([float((row + step) % 2) for row in range(ROWS)])
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], labels, reduction="sum")
    return nn.functional.mse_loss(outputs[:, 0], formula(ROWS, 13, step, 17, 4), reduction="sum")


def case(task, kind, activation):
    model = dict(MLP if kind == "mlp" else CNN, activation=activation)
    shape = [4] if kind == "mlp" else [1, 6, 5]
    outputs = 3 if task == "multiclass" else 1
    layers = network(kind, model, activation, outputs)
    named = {f"{name}.{part}": p for name, module in layers if name for part, p in module.named_parameters()}
    with torch.no_grad():
        for index, name in enumerate(sorted(named)):
            values = formula(named[name].numel(), 37, 11 * index, 101, 128)
            named[name].copy_(values.view(named[name].shape))
    optimizer = torch.optim.SGD(named.values(), lr=LEARNING_RATE)
    losses, gradients = [], {}
    for step in range(STEPS):
        size = torch.Size([ROWS, *shape])
        outs = formula(size.numel(), 29, 5 * step, 97, 32).view(size)
        for _, module in layers:
            outs = module(outs)
        loss = summed_loss(task, outs, step)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step == 0:
            gradients = {name: p.grad.flatten().tolist() for name, p in sorted(named.items())}
        for p in named.values():
            p.grad /= ROWS
        optimizer.step()
    return {
        "task": task,
        "model": {kind: model},
        "inputShape": shape,
        "outputs": outputs,
        "rows": ROWS,
        "learningRate": LEARNING_RATE,
        "losses": losses,
        "gradients": {name: [float(f"{g:.9g}") for g in values] for name, values in gradients.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [json.dumps(case(*arguments), separators=(",", ":")) for arguments in CASES]
    Path(__file__).with_name("gradients.json").write_text("[\n" + ",\n".join(cases) + "\n]\n")
