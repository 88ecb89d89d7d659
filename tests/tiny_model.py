"""A random Llama small enough to be made on the spot: real file formats, real libraries, no download."""

import json
from pathlib import Path
from typing import Any

SENTENCES = (
    "Name three uses of a paper clip and explain one of them.",
    "Water boils sooner on a mountain because the air presses on it less.",
    "Score: 0 Score: 1 Score: 2 Score: 3 Score: 4 Score: 5",
    "The response answers the question clearly, but it leaves out an example.",
    "Write a short letter that thanks a neighbour for looking after the cat.",
    "system user assistant instruction task answer prompt reply because therefore",
    "First, wash the rice. Then cook it slowly, and let it rest for ten minutes.",
)
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def make_tiny_model(directory: Path, seed: int = 0) -> Path:
    """Write a 2-layer bf16 Llama of about 0.1 M random weights, with its tokenizer, into `directory`.

    The same seed gives the same weights. Loads in transformers and in vLLM. Takes a few seconds,
    most of them the import of torch.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def rewrite_config(directory: Path, **changes: Any) -> None:
    """Change keys of a model's config.json."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))


def _tokenizer() -> Any:
    """Byte-level BPE trained on SENTENCES; a digit is always a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=2048,
    )
    tokenizer.chat_template = CHATML
    return tokenizer
