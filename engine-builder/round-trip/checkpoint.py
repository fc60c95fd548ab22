"""Writes a checkpoint, as its makers publish one, of a Llama in a GGUF file.

    checkpoint.py MODEL.gguf DIR

The way back of llama.cpp's convert_hf_to_gguf.py, for scripts/convert-round-trip: what
that tool then makes of the checkpoint must be the model again. The weights are those of the
file, dequantised, in 32 bits.
"""

import json
import sys
from pathlib import Path

import numpy
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file

CONTROL = 3

LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def checkpoint_name(name):
    """What the makers call a tensor."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER[part]}.{kind}"


def halves(weights, heads):
    """Rows of a head as the makers have them: the two halves that RoPE turns, one
    after the other. GGUF has them in turns."""
    rows = weights.shape[0]
    turns = weights.reshape(heads, rows // heads // 2, 2, *weights.shape[1:])
    return turns.swapaxes(1, 2).reshape(weights.shape)


def main(source, target):
    reader = GGUFReader(source)
    fields = reader.fields

    def of(name):
        return fields[name].contents() if name in fields else None

    def llama(name):
        return of(f"llama.{name}")

    assert of("general.architecture") == "llama" and of("tokenizer.ggml.model") == "gpt2"
    target.mkdir(parents=True)
    heads, kv_heads = llama("attention.head_count"), llama("attention.head_count_kv")
    tensors = {}
    for tensor in reader.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        if ".attn_q." in tensor.name:
            weights = halves(weights, heads)
        if ".attn_k." in tensor.name:
            weights = halves(weights, kv_heads)
        tensors[checkpoint_name(tensor.name)] = numpy.ascontiguousarray(weights)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})

    tokens, types = of("tokenizer.ggml.tokens"), of("tokenizer.ggml.token_type")
    bos, eos = of("tokenizer.ggml.bos_token_id"), of("tokenizer.ggml.eos_token_id")

    def write(name, content):
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (target / name).write_text(text, encoding="utf-8")

    write("config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "hidden_act": "silu",
        "bos_token_id": bos,
        "eos_token_id": eos,
        "hidden_size": llama("embedding_length"),
        "intermediate_size": llama("feed_forward_length"),
        "max_position_embeddings": llama("context_length"),
        "num_attention_heads": heads,
        "num_hidden_layers": llama("block_count"),
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": round(llama("attention.layer_norm_rms_epsilon"), 12),
        "rope_theta": llama("rope.freq_base"),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
        "vocab_size": len(tokens),
    })
    special = [
        {"id": number, "content": tokens[number], "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False, "special": True}
        for number, kind in enumerate(types) if kind == CONTROL
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pieces = [
        {"type": "Digits", "individual_digits": True},
        {**byte_level, "use_regex": True},
    ]
    write("tokenizer.json", {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pieces},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": of("tokenizer.ggml.merges"),
        },
    })
    write("tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "bos_token": tokens[bos],
        "eos_token": tokens[eos],
        "unk_token": tokens[of("tokenizer.ggml.unknown_token_id") or bos],
        "model_max_length": llama("context_length"),
        "chat_template": of("tokenizer.chat_template"),
    })
    write("generation_config.json", {"bos_token_id": bos, "eos_token_id": eos})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
