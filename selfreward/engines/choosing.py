"""How likely each of a few one-token choices is after a reply has begun in a given way, exact to the token.

A chat template may strip the end of a message, and a tokenizer may melt a space into the word after it.
So the server tokenises the conversation up to the last character that is no white space, what follows
is added as tokens, and the probabilities are asked for by token id.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfreward.engines.base import ChatMessage, NotOneToken, RequestFailed
from selfreward.types import Choice

Post = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""(path, body) → the JSON of the reply."""

TOP_LOGPROBS = 20
"""What vLLM gives by default, and all that a version which does not know `logprob_token_ids` gives."""
LONGEST_TAIL = 64
"""Characters of the stem's last line that are looked at: tokens further back do not depend on its end."""


@dataclass(frozen=True, kw_only=True)
class Junction:
    """How the tokens go on where a stem, without the white space at its end, leaves off."""

    removed: tuple[int, ...]
    """Tokens at the end that melt with what follows …"""
    added: tuple[int, ...]
    """… and the tokens that stand there instead, up to the choice."""
    choices: tuple[int, ...]
    """The token of each choice."""

    def join(self, tokens: Sequence[int]) -> list[int]:
        """The tokens up to the choice. Raises RequestFailed where the template changed the stem."""
        kept = len(tokens) - len(self.removed)
        if tuple(tokens[kept:]) != self.removed:
            raise RequestFailed("the model's chat template does not leave the begun reply as it is")
        return [*tokens[:kept], *self.added]


class Chooser:
    """`Engine.choose` over vLLM's HTTP interface. Settles each junction once."""

    def __init__(self, post: Post, model: str) -> None:
        self._post, self._model = post, model
        self._junctions: dict[tuple[str, tuple[str, ...]], Junction] = {}
        self._settling = asyncio.Lock()

    async def choose(self, messages: Sequence[ChatMessage], stem: str, choices: Sequence[str]) -> Choice:
        """See `Engine.choose`."""
        junction = await self.settle(stem, choices)
        prompt = junction.join(await self._conversation(messages, stem.rstrip()))
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": 1,
            "temperature": 1.0,
            "logprobs": TOP_LOGPROBS,
            "logprob_token_ids": list(junction.choices),
            "return_tokens_as_token_ids": True,
        }
        reply = await self._post("/v1/completions", body)
        return Choice(probabilities=_probabilities(reply, junction.choices))

    async def settle(self, stem: str, choices: Sequence[str]) -> Junction:
        """How the tokens go on from `stem` to each choice. Raises NotOneToken where they do not."""
        return await self._junction(_tail(stem), tuple(choices))

    async def _conversation(self, messages: Sequence[ChatMessage], stem: str) -> list[int]:
        """Token ids of the conversation with a reply that has begun with `stem`."""
        begun: ChatMessage = {"role": "assistant", "content": stem}
        body = {
            "model": self._model,
            "messages": [*messages, begun] if stem else list(messages),
            "add_generation_prompt": not stem,
            "continue_final_message": bool(stem),
        }
        return list((await self._post("/tokenize", body))["tokens"])

    async def _tokens(self, text: str) -> tuple[int, ...]:
        if not text:
            return ()  # the server takes no empty prompt
        body = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return tuple((await self._post("/tokenize", body))["tokens"])

    async def _junction(self, tail: str, choices: tuple[str, ...]) -> Junction:
        async with self._settling:
            if (tail, choices) not in self._junctions:
                self._junctions[tail, choices] = await self._settle(tail, choices)
            return self._junctions[tail, choices]

    async def _settle(self, tail: str, choices: tuple[str, ...]) -> Junction:
        """Each choice must be one token after the tail, or with a leading space after one space less."""
        found = await self._tokenise(tail, choices)
        if isinstance(found, Junction):
            return found
        if tail.endswith(" "):
            glued = await self._tokenise(tail[:-1], tuple(f" {choice}" for choice in choices))
            if isinstance(glued, Junction):
                return glued
        raise _not_one_token(tail, dict(zip(choices, found, strict=True)))

    async def _tokenise(self, tail: str, choices: tuple[str, ...]) -> Junction | list[int]:
        """The junction, or how many tokens each choice is when it is not one."""
        texts = (tail.rstrip(), tail, *(tail + choice for choice in choices))
        bare, before, *after = await asyncio.gather(*map(self._tokens, texts))
        common = _common(bare, before)
        added = [tokens[_common(before, tokens) :] for tokens in after]
        single = {tokens[0] for tokens in added if len(tokens) == 1}
        intact = all(tokens[: len(before)] == before for tokens in after)
        if not intact or len(single) < len(choices):
            return [len(tokens) for tokens in added]
        return Junction(
            removed=bare[common:], added=before[common:], choices=tuple(tokens[0] for tokens in added)
        )


def _tail(stem: str) -> str:
    """The end of the stem from its last line that is not blank; the whole decides only about itself."""
    body = stem.rstrip()
    line = body.rpartition("\n")[2][-LONGEST_TAIL:]
    return line + stem[len(body) :]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common start."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _probabilities(reply: Mapping[str, Any], tokens: Sequence[int]) -> tuple[float, ...]:
    """Over the whole vocabulary; 0 for a token that the server did not name."""
    logprobs: Mapping[str, float] = reply["choices"][0]["logprobs"]["top_logprobs"][0]
    named = (logprobs.get(f"token_id:{token}") for token in tokens)
    return tuple(0.0 if value is None else min(1.0, math.exp(value)) for value in named)


def _not_one_token(tail: str, counts: Mapping[str, int]) -> NotOneToken:
    worst, count = max(counts.items(), key=lambda item: item[1])
    if count > 1:
        fault = f"{worst!r} is {count} tokens"
    else:
        fault = f"{', '.join(map(repr, counts))} are no different tokens of their own"
    return NotOneToken(
        f"after {tail!r}, {fault} in this model's tokenizer: their probabilities cannot be compared",
        'Set judge.score = "sampled", or use a model whose tokenizer has a token for each.',
    )
