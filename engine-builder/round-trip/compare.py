"""Says whether a GGUF of 16 bits is the model of another GGUF, tensor by tensor.

    compare.py MODEL.gguf CONVERTED.gguf

Ends with status 1 at the first thing that differs. A weight may differ by its rounding to
16 bits and by nothing else; what the files say of model and tokeniser must be the same, but
for names and the like, which a checkpoint does not have.
"""

import sys

import numpy
from gguf import GGMLQuantizationType, GGUFReader, dequantize

# What is said of the model that decides how it computes and how it reads text.
SAME = (
    "general.architecture", "llama.attention.head_count", "llama.attention.head_count_kv",
    "llama.attention.layer_norm_rms_epsilon", "llama.block_count", "llama.context_length",
    "llama.embedding_length", "llama.feed_forward_length", "llama.rope.dimension_count",
    "llama.rope.freq_base", "tokenizer.chat_template", "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.merges", "tokenizer.ggml.model",
    "tokenizer.ggml.pre", "tokenizer.ggml.token_type", "tokenizer.ggml.tokens",
)


def main(model, converted):
    model, converted = GGUFReader(model), GGUFReader(converted)
    for name in SAME:
        said = [file.fields[name].contents() if name in file.fields else None
                for file in (model, converted)]
        if said[0] != said[1]:
            return f"{name} is {str(said[1])[:200]}, not {str(said[0])[:200]}"
    of = {tensor.name: tensor for tensor in model.tensors}
    made = {tensor.name: tensor for tensor in converted.tensors}
    if of.keys() != made.keys():
        return f"tensors differ: {sorted(of.keys() ^ made.keys())[:5]}"
    weights = 0
    for name, tensor in of.items():
        expected = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if made[name].tensor_type == GGMLQuantizationType.F16:
            expected = expected.astype(numpy.float16).astype(numpy.float32)
        found = dequantize(made[name].data, made[name].tensor_type).astype(numpy.float32)
        if expected.shape != found.shape or not numpy.array_equal(expected, found):
            return f"{name} differs"
        weights += expected.size
    print(f"the same: {len(of)} tensors with {weights} weights to the last bit of their 16, "
          f"{len(SAME)} facts of model and tokeniser")
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
