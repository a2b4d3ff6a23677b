"""Trains the digits classifier, compresses it for real in several ways, exports ONNX and records what was measured.

Reads the digits data set that ships with scikit-learn; writes *.onnx, models.json, digits-test.json and the table in README.md
beside itself. `--check` trains nothing: it measures the committed files with ONNX Runtime and fails when a digest, a size, an
accuracy or the table differs from what is recorded. It does not tune anything on the test set and does not serve models.
"""

import os

# One thread: a different order of additions inside the matrix products would give different weights.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import copy
import hashlib
import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = pathlib.Path(__file__).resolve().parent
SEED = 1
SPLIT_SEED = 7
TEST_SHARE = 0.4
HIDDEN = (256, 256)
PIXEL_SCALE = 16  # the data set's pixels are integers 0..16; the models take them divided by this
OPSET = 13
IR_VERSION = 8
BATCH = 64
TABLE_BEGIN, TABLE_END = "<!-- table: begin -->", "<!-- table: end -->"


class Mlp:
    """Fully connected ReLU network: weights[i] is (inputs, outputs), biases[i] is (outputs,), all float32."""

    def __init__(self, weights, biases):
        self.weights, self.biases = weights, biases

    @classmethod
    def fresh(cls, sizes, rng):
        """He initialisation (He et al. 2015)."""
        shapes = list(zip(sizes, sizes[1:]))
        weights = [(rng.standard_normal(s) * np.sqrt(2 / s[0])).astype(np.float32) for s in shapes]
        return cls(weights, [np.zeros(s[1], np.float32) for s in shapes])

    def activations(self, x):
        """Input, hidden activations and logits, in this order."""
        out = [x]
        for i, (w, b) in enumerate(zip(self.weights, self.biases)):
            x = x @ w + b
            out.append(np.maximum(x, 0) if i + 1 < len(self.weights) else x)
            x = out[-1]
        return out


def gradients(net, x, labels):
    """Gradient of the mean cross entropy for one batch, as (weight gradients, bias gradients)."""
    acts = net.activations(x)
    logits = acts[-1] - acts[-1].max(axis=1, keepdims=True)
    delta = np.exp(logits)
    delta /= delta.sum(axis=1, keepdims=True)
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    grad_w, grad_b = [], []
    for i in reversed(range(len(net.weights))):
        grad_w.insert(0, acts[i].T @ delta)
        grad_b.insert(0, delta.sum(axis=0))
        if i:
            delta = (delta @ net.weights[i].T) * (acts[i] > 0)
    return grad_w, grad_b


def fit(net, x, labels, epochs, rate, rng, masks=None, decay=1e-4):
    """Adam (Kingma and Ba 2015) with a cosine schedule; masked weights stay zero."""
    params = net.weights + net.biases
    first, second = ([np.zeros_like(p) for p in params] for _ in range(2))
    step = 0
    for epoch in range(epochs):
        now = rate * 0.5 * (1 + np.cos(np.pi * epoch / epochs))
        order = rng.permutation(len(x))
        for begin in range(0, len(x), BATCH):
            pick = order[begin : begin + BATCH]
            grad_w, grad_b = gradients(net, x[pick], labels[pick])
            grads = [g + decay * w for g, w in zip(grad_w, net.weights)] + grad_b
            step += 1
            for param, grad, m, v in zip(params, grads, first, second):
                m += 0.1 * (grad - m)
                v += 0.001 * (grad * grad - v)
                param -= (now * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)).astype(np.float32)
            for weight, mask in zip(net.weights, masks or []):
                weight *= mask
    return net


def prune_unstructured(net, share):
    """Sets the smallest `share` of each layer's weights to zero; shapes stay, so neither size nor speed changes."""
    net = copy.deepcopy(net)
    masks = [np.abs(w) > np.quantile(np.abs(w), share) for w in net.weights]
    for weight, mask in zip(net.weights, masks):
        weight *= mask
    return net, masks


def prune_structured(net, share):
    """Removes the `share` of each hidden layer's neurons whose in- and outgoing weights are smallest; matrices really shrink."""
    net = copy.deepcopy(net)
    for layer in range(len(net.weights) - 1):
        importance = np.linalg.norm(net.weights[layer], axis=0) * np.linalg.norm(net.weights[layer + 1], axis=1)
        keep = np.sort(np.argsort(-importance, kind="stable")[: round(len(importance) * (1 - share))])
        net.weights[layer] = np.ascontiguousarray(net.weights[layer][:, keep])
        net.biases[layer] = net.biases[layer][keep]
        net.weights[layer + 1] = np.ascontiguousarray(net.weights[layer + 1][keep, :])
    return net


def save(path, nodes, constants):
    """Writes one ONNX file: image [N, 64] in 0..1 -> probabilities [N, 10]."""
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="espalier")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def export_float(net, path):
    nodes, constants, current = [], {}, "image"
    for i, (w, b) in enumerate(zip(net.weights, net.biases)):
        constants |= {f"w{i}": w, f"b{i}": b}
        last = i + 1 == len(net.weights)
        nodes.append(helper.make_node("Gemm", [current, f"w{i}", f"b{i}"], [f"z{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"h{i}"]))
        current = f"z{i}" if last else f"h{i}"
    nodes.append(helper.make_node("Softmax", [current], ["probabilities"], axis=1))
    save(path, nodes, constants)


def export_int8(net, calibration, path):
    """Post-training static quantization (Jacob et al. 2018): int8 weights with one scale per output, uint8 activations with a
    scale from the training set, 32-bit integer sums. Scales are fixed, so an answer does not depend on the rest of its batch."""
    nodes, constants, current = [], {"zero_u8": np.uint8(0)}, "image"
    tops = [float(a.max()) for a in net.activations(calibration)[:-1]]
    for i, (w, b, top) in enumerate(zip(net.weights, net.biases, tops)):
        scale_w = (np.abs(w).max(axis=0) / 127).astype(np.float32)
        scale_x = np.float32(top / 255)
        constants |= {
            f"scale_x{i}": scale_x,
            f"w{i}": np.clip(np.rint(w / scale_w), -127, 127).astype(np.int8),
            f"scale{i}": scale_w * scale_x,
            f"b{i}": b,
        }
        last = i + 1 == len(net.weights)
        nodes += [
            helper.make_node("QuantizeLinear", [current, f"scale_x{i}", "zero_u8"], [f"q{i}"]),
            helper.make_node("MatMulInteger", [f"q{i}", f"w{i}", "zero_u8"], [f"s{i}"]),
            helper.make_node("Cast", [f"s{i}"], [f"f{i}"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"f{i}", f"scale{i}"], [f"m{i}"]),
            helper.make_node("Add", [f"m{i}", f"b{i}"], [f"z{i}"]),
        ]
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{i}"], [f"h{i}"]))
        current = f"z{i}" if last else f"h{i}"
    nodes.append(helper.make_node("Softmax", [current], ["probabilities"], axis=1))
    save(path, nodes, constants)


def data():
    """(train x, train labels, test x, test labels); x is float32 in 0..1."""
    pixels, labels = load_digits(return_X_y=True)
    x = (pixels / PIXEL_SCALE).astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        x, labels, test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    return train_x, train_y, test_x, test_y


def predictions(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": x})[0].argmax(axis=1)


def describe(name, method, sparsity, precision, tuned, words, test_x, test_y):
    """One row of models.json, every number read back from the file that will be served."""
    path = HERE / f"{name}.onnx"
    weights = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer if len(t.dims) == 2]
    raw = path.read_bytes()
    return {
        "name": name,
        "file": path.name,
        "description": words,
        "method": method,
        "sparsity": sparsity,
        "precision": precision,
        "fineTuned": tuned,
        "bytes": len(raw),
        "weights": sum(w.size for w in weights),
        "nonzeroWeights": int(sum(np.count_nonzero(w) for w in weights)),
        "testAccuracy": round(float((predictions(path, test_x) == test_y).mean()), 6),
        "digest": "sha256:" + hashlib.sha256(raw).hexdigest(),
    }


CATALOGUE = [
    # name, method, sparsity, precision, fine-tuned, description
    ("fp32", "None", "0%", "fp32", False, "the teacher"),
    ("structured-50", "StructuredPruning", "50%", "fp32", True, "half of the hidden neurons removed: smaller and faster, nearly as accurate"),
    ("pruned-70", "UnstructuredPruning", "70%", "fp32", False, "borderline: same size and speed, a little worse"),
    ("pruned-80-ft", "UnstructuredPruning", "80%", "fp32", True, "sparse and fine-tuned: same size and speed, nearly as accurate"),
    ("pruned-90", "UnstructuredPruning", "90%", "fp32", False, "over-pruned: same size and speed, wrong answers"),
    ("int8", "Quantization", "0%", "int8", False, "8-bit integer weights, activations and products"),
]


def train():
    train_x, train_y, test_x, test_y = data()
    rng = np.random.default_rng(SEED)
    teacher = fit(Mlp.fresh((64, *HIDDEN, 10), rng), train_x, train_y, 60, 2e-3, rng)
    export_float(teacher, HERE / "fp32.onnx")
    export_float(fit(prune_structured(teacher, 0.5), train_x, train_y, 30, 1e-3, rng), HERE / "structured-50.onnx")
    for name, share, tuned in (("pruned-70", 0.7, False), ("pruned-80-ft", 0.8, True), ("pruned-90", 0.9, False)):
        net, masks = prune_unstructured(teacher, share)
        if tuned:
            fit(net, train_x, train_y, 30, 1e-3, rng, masks)
        export_float(net, HERE / f"{name}.onnx")
    export_int8(teacher, train_x, HERE / "int8.onnx")

    rows = [describe(*entry, test_x, test_y) for entry in CATALOGUE]
    write_json(
        HERE / "models.json",
        {"dataset": "scikit-learn digits (UCI optical recognition of handwritten digits)", "seed": SEED, "splitSeed": SPLIT_SEED,
         "trainImages": len(train_x), "testImages": len(test_x), "pixelScale": PIXEL_SCALE, "models": rows},
    )
    write_json(
        HERE / "digits-test.json",
        {"pixelScale": PIXEL_SCALE, "labels": test_y.tolist(), "teacher": predictions(HERE / "fp32.onnx", test_x).tolist(),
         "images": np.rint(test_x * PIXEL_SCALE).astype(int).tolist()},
        rows="images",
    )
    readme = HERE / "README.md"
    readme.write_text(with_table(readme.read_text(), rows))
    print(table(rows))


def write_json(path, value, rows=None):
    """Indented JSON; the list under key `rows` gets one line per element instead of one per number."""
    if rows is None:
        path.write_text(json.dumps(value, indent=1) + "\n")
        return
    lines = [f" {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items() if k != rows]
    body = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in value[rows])
    path.write_text("{\n" + ",\n".join(lines + [f" {json.dumps(rows)}: [\n{body}\n ]"]) + "\n}\n")


def table(rows):
    lines = ["| model | method | sparsity | precision | file, bytes | weights (nonzero) | test accuracy |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        method = r["method"] + (", fine-tuned" if r["fineTuned"] else "")
        lines.append(
            f"| `{r['name']}`: {r['description']} | {method} | {r['sparsity']} | {r['precision']} | {r['bytes']:,} "
            f"| {r['weights']:,} ({r['nonzeroWeights']:,}) | {100 * r['testAccuracy']:.1f} % |"
        )
    return "\n".join(lines)


def with_table(text, rows):
    before, rest = text.split(TABLE_BEGIN)
    return f"{before}{TABLE_BEGIN}\n{table(rows)}\n{TABLE_END}{rest.split(TABLE_END)[1]}"


def check():
    """Problems found, as sentences; an empty list when the committed files are what models.json says."""
    recorded = json.loads((HERE / "models.json").read_text())["models"]
    _, _, test_x, test_y = data()
    problems = []
    if sorted(r["name"] for r in recorded) != sorted(entry[0] for entry in CATALOGUE):
        problems.append("models.json lists other models than train.py makes")
    for entry in CATALOGUE:
        found = describe(*entry, test_x, test_y)
        known = next((r for r in recorded if r["name"] == entry[0]), {})
        for key in sorted(found.keys() | known.keys()):
            if found.get(key) != known.get(key):
                problems.append(f"{entry[0]}: {key} is {found.get(key)!r}, models.json says {known.get(key)!r}")
    digits = json.loads((HERE / "digits-test.json").read_text())
    if not np.array_equal(np.array(digits["images"]), np.rint(test_x * PIXEL_SCALE)) or digits["labels"] != test_y.tolist():
        problems.append("digits-test.json is not the test split")
    if digits["teacher"] != predictions(HERE / "fp32.onnx", test_x).tolist():
        problems.append("digits-test.json: the teacher's answers differ from what fp32.onnx answers")
    if with_table((HERE / "README.md").read_text(), recorded) != (HERE / "README.md").read_text():
        problems.append("the table in README.md is stale")
    return problems


def main():
    parser = argparse.ArgumentParser(description="Train, compress and export the digits models, or check the committed ones.")
    parser.add_argument("--check", action="store_true", help="measure the committed files and compare with models.json")
    if not parser.parse_args().check:
        train()
        return 0
    problems = check()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(CATALOGUE)} models checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
