"""How clearly a model prefers the chosen answers of an iteration's pairs, before and after its training.

    python -m tests.methods.margins RUN_DIRECTORY

Prints [before, after]: the mean over the pairs of log P(chosen)/|chosen| − log P(rejected)/|rejected| under
M_t and under M_{t+1}, natural logarithms, lengths in tokens with the end of the turn. [null, null] without
pairs. Whatever was trained on, the pairs are those that the pair rule drew, or that were imported. A process
of its own, since it loads transformers.
"""

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PAIRS = """
    SELECT prompt.text, chosen.text, rejected.text FROM preference_pair AS pair
    JOIN iteration ON iteration.id = pair.iteration_id
    JOIN prompt ON prompt.id = pair.prompt_id
    JOIN candidate AS chosen ON chosen.id = chosen_id
    JOIN candidate AS rejected ON rejected.id = rejected_id
    WHERE t = 1 AND pair.excluded IS NULL ORDER BY pair.id
"""

Pair = tuple[str, str, str]


def main(directory: Path) -> None:
    """Measure the run in `directory`."""
    with closing(sqlite3.connect(directory / "selfreward.db")) as connection:
        pairs = connection.execute(PAIRS).fetchall()
    print(json.dumps([margin(directory / "models" / name, pairs) for name in ("M_1", "M_2")]))


def margin(model_dir: Path, pairs: Sequence[Pair]) -> float | None:
    """The mean margin of a model, in nats per token; None without pairs."""
    if not pairs:
        return None
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).to(device).eval()
    with torch.inference_mode():
        return mean(_margins(model, tokenizer, pairs))


def _margins(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> Iterator[float]:
    for prompt, chosen, rejected in pairs:
        likely, unlikely = (_per_token(model, tokenizer, prompt, text) for text in (chosen, rejected))
        yield likely - unlikely


def _per_token(model: Any, tokenizer: Any, prompt: str, answer: str) -> float:
    """Mean log-probability of the answer's tokens, nats."""
    user = [{"role": "user", "content": prompt}]
    asked = tokenizer.apply_chat_template(user, add_generation_prompt=True, tokenize=False)
    before = tokenizer(asked, add_special_tokens=False)["input_ids"]
    said = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    tokens = torch.tensor([before + said], device=model.device)
    logits = model(tokens, logits_to_keep=len(said) + 1).logits[0, :-1]
    chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens[0, -len(said) :, None])
    return float(chosen.mean())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
