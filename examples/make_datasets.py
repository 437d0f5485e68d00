#!/usr/bin/env python3
"""Makes the example datasets from the copies that scikit-learn ships.

    python3 examples/make_datasets.py [WHEEL]

Without WHEEL (a scikit-learn wheel, any platform) it is fetched with `pip download`. The files in
this folder are the script's output, byte for byte; it needs nothing but Python's own library.
Where the data come from and under which terms they stand is told by the README.md beside each.
"""

import csv
import gzip
import hashlib
import io
import pathlib
import struct
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.9.1"
MEMBERS = {
    "breast_cancer.csv": "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
    "digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "diabetes_data_raw.csv.gz": "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
    "diabetes_target.csv.gz": "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
}
MEASURES = [
    "radius", "texture", "perimeter", "area", "smoothness",
    "compactness", "concavity", "concave points", "symmetry", "fractal dimension",
]
HERE = pathlib.Path(__file__).resolve().parent


def fetch(folder):
    """Downloads the wheel into `folder` and returns its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    subprocess.run([*pip, f"scikit-learn=={VERSION}"], check=True)
    return next(pathlib.Path(folder).glob("*.whl"))


def read(wheel):
    """The four data files, checked against their digests."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, digest in MEMBERS.items():
            data = archive.read(f"sklearn/datasets/data/{name}")
            found = hashlib.sha256(data).hexdigest()
            if found != digest:
                sys.exit(f"{name}: expected SHA-256 {digest}, found {found}; use scikit-learn {VERSION}")
            files[name] = gzip.decompress(data) if name.endswith(".gz") else data
    return {name: data.decode("ascii").splitlines() for name, data in files.items()}


def write_csv(path, header, rows):
    """Writes a comma-separated file with Unix line ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    (HERE / path).write_text(text.getvalue(), encoding="ascii", newline="")


def write_npy(path, shape, values):
    """Writes an array of unsigned bytes as numpy.save does (version 1.0 of the format)."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
    (HERE / path).write_bytes(prefix + header.encode("ascii") + bytes(values))


def breast_cancer(lines):
    """30 measures of cell nuclei and the diagnosis in words."""
    header, *rows = csv.reader(lines)
    classes = header[2:]
    names = [f"mean {m}" for m in MEASURES] + [f"{m} error" for m in MEASURES]
    names += [f"worst {m}" for m in MEASURES] + ["diagnosis"]
    rows = [[*row[:-1], classes[int(row[-1])]] for row in rows]
    write_csv("breast-cancer/breast-cancer.csv", names, rows)


def digits(lines):
    """Images of 8 x 8 pixels from 0 to 16, one channel, and the digit each shows."""
    rows = [[int(float(value)) for value in row] for row in csv.reader(lines)]
    pixels = [value for row in rows for value in row[:-1]]
    write_npy("digits/digits-features.npy", (len(rows), 1, 8, 8), pixels)
    write_npy("digits/digits-labels.npy", (len(rows),), [row[-1] for row in rows])


def diabetes(data, target):
    """Ten measures of a patient, unscaled, and the disease's progression after a year."""
    names = ["age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu", "progression"]
    rows = [[*row.split(), int(float(label))] for row, label in zip(data, target, strict=True)]
    write_csv("diabetes/diabetes.csv", names, rows)


def main():
    """Makes every file."""
    for folder in ("breast-cancer", "digits", "diabetes"):
        (HERE / folder).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        files = read(sys.argv[1] if len(sys.argv) > 1 else fetch(folder))
    breast_cancer(files["breast_cancer.csv"])
    digits(files["digits.csv.gz"])
    diabetes(files["diabetes_data_raw.csv.gz"], files["diabetes_target.csv.gz"])


if __name__ == "__main__":
    main()
