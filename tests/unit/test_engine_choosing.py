"""Choices after a begun reply, against scripted tokenizers: every token must be the one that is meant."""

import asyncio
import json
import math
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from selfreward.engines.base import EngineDied, NotOneToken, PromptTooLong, RequestFailed
from selfreward.engines.client import EngineClient
from selfreward.types import Choice

Tokenizer = Callable[[str], list[str]]
SCORES = list("012345")
QUESTION = [{"role": "user", "content": "Judge this."}]


def spaced(text: str) -> list[str]:
    """A space is a token of its own, as is a digit."""
    return re.findall(r"\w(?<=\d)|[^\W\d]+|\s|[^\w\s]", text)


def glued(text: str) -> list[str]:
    """A space belongs to the word or digit after it."""
    return re.findall(r" ?[^\W\d]+|\s?\d|\s|[^\w\s]", text)


def melting(text: str) -> list[str]:
    """Marks and the new line after them are one token."""
    return re.findall(r"\d|[^\W\d]+|[^\w\s]+\n*|\s", text)


def halved(text: str) -> list[str]:
    """A digit is two tokens."""
    return [half for token in spaced(text) for half in (["d", token] if token.isdigit() else [token])]


class Server:
    """Tokenises, strips what a template would strip, and likes the choices in a known order."""

    def __init__(self, tokenizer: Tokenizer, *, strips: bool = False, knows_ids: bool = True) -> None:
        self.tokenizer, self.strips, self.knows_ids = tokenizer, strips, knows_ids
        self.vocabulary: list[str] = []
        self.likely = {"4": 0.6, "3": 0.2, "0": 0.001}
        self.asked: list[str] = []
        self.tokenised = 0
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path == "/tokenize":
            self.tokenised += 1
            return httpx.Response(200, json={"tokens": self.numbers(self.text(body))})
        self.bodies.append(body)
        self.asked.append("|".join(self.vocabulary[number] for number in body["prompt"]))
        return httpx.Response(200, json={"choices": [{"index": 0, "logprobs": self.logprobs(body)}]})

    def text(self, body: dict[str, Any]) -> str:
        if "prompt" in body:
            return str(body["prompt"])
        *before, last = [message["content"] for message in body["messages"]]
        opened = last.strip() if self.strips and body["continue_final_message"] else last
        return "\n".join([*before, opened]) + ("\n" if body["add_generation_prompt"] else "")

    def numbers(self, text: str) -> list[int]:
        tokens = self.tokenizer(text)
        self.vocabulary += [token for token in dict.fromkeys(tokens) if token not in self.vocabulary]
        return [self.vocabulary.index(token) for token in tokens]

    def logprobs(self, body: dict[str, Any]) -> dict[str, Any]:
        top = {
            f"token_id:{number}": math.log(self.likely[token.strip()])
            for number, token in enumerate(self.vocabulary)
            if token.strip() in self.likely
        }
        if self.knows_ids:
            top |= {f"token_id:{n}": -9.0 for n in body["logprob_token_ids"] if f"token_id:{n}" not in top}
        return {"top_logprobs": [top]}


def choose(
    answer: Callable[[httpx.Request], httpx.Response], *stems: str, choices: list[str] = SCORES
) -> list[Choice]:
    """The choices after each of the stems, all asked for at once."""

    async def session() -> list[Choice]:
        engine = EngineClient(
            url="http://engine",
            model="m",
            seed=1,
            description="scripted",
            request_timeout_s=5,
            concurrency=2,
            post_mortem=lambda cause: EngineDied(cause),
            transport=httpx.MockTransport(answer),
        )
        try:
            return list(await asyncio.gather(*(engine.choose(QUESTION, stem, choices) for stem in stems)))
        finally:
            await engine.close()

    return asyncio.run(session())


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize(
    ("tokenizer", "stem", "end"),
    [
        (spaced, "Good.\nScore: ", "\n|Score|:| "),
        (spaced, "Good.\nScore:", "\n|Score|:"),
        (glued, "Good.\nScore: ", "\n|Score|:"),
        (glued, "Good.\nScore:", "\n|Score|:"),
        (glued, "Good.\nScore:  ", "\n|Score|:| "),
        (melting, "Good.\n**Score:**\n", ".\n|**|Score|:**\n"),
        (melting, "Good.\nScore: ", ".\n|Score|:| "),
        (spaced, "Score: ", "\n|Score|:| "),
    ],
)
def test_the_model_goes_on_from_the_very_end_of_the_stem(
    tokenizer: Tokenizer, stem: str, end: str, strips: bool
) -> None:
    server = Server(tokenizer, strips=strips)
    (choice,) = choose(server, stem)
    assert server.asked[0].endswith(end)
    assert server.asked[0].startswith("|".join(tokenizer("Judge this.\n")[:2]))
    assert choice.probabilities == pytest.approx((0.001, *[math.exp(-9)] * 2, 0.2, 0.6, math.exp(-9)))
    assert choice.lost_mass == pytest.approx(0.2, abs=0.01)
    assert choice.token_count == 1


def test_the_request_asks_for_one_token_and_for_the_choices_by_number() -> None:
    server = Server(spaced)
    choose(server, "Score: ")
    (body,) = server.bodies
    wanted = [server.vocabulary.index(score) for score in SCORES]
    rest = {key: value for key, value in body.items() if key != "prompt"}
    assert rest == {
        "model": "m",
        "max_tokens": 1,
        "temperature": 1.0,
        "logprobs": 20,
        "logprob_token_ids": wanted,
        "return_tokens_as_token_ids": True,
    }


def test_a_choice_that_the_server_does_not_name_has_no_probability() -> None:
    (choice,) = choose(Server(spaced, knows_ids=False), "Score: ")
    assert choice.probabilities == pytest.approx((0.001, 0, 0, 0.2, 0.6, 0))


def test_how_the_choices_are_tokenised_is_settled_once() -> None:
    server = Server(spaced)
    choose(server, "Good.\nScore: ", "Bad.\nScore: ", "So so.\nScore: ")
    assert server.tokenised == 3 + 2 + len(SCORES)


def test_an_empty_stem_is_the_start_of_the_reply() -> None:
    server = Server(spaced)
    choose(server, "")
    assert server.asked[0].endswith("this|.|\n")


@pytest.mark.parametrize(
    ("tokenizer", "choices", "fault"),
    [(halved, SCORES, "'0' is 2 tokens"), (spaced, ["1", "10"], "'10' is 2 tokens")],
)
def test_a_choice_of_several_tokens_is_refused_with_its_number(
    tokenizer: Tokenizer, choices: list[str], fault: str
) -> None:
    with pytest.raises(NotOneToken, match=f"after 'Score: ', {fault}") as caught:
        choose(Server(tokenizer), "Good.\nScore: ", choices=choices)
    assert 'judge.score = "sampled"' in caught.value.hint


def test_choices_that_share_a_token_are_refused() -> None:
    with pytest.raises(NotOneToken, match="no different tokens"):
        choose(Server(lambda text: ["?" if c.isdigit() else c for c in text]), "Score: ")


def test_a_template_that_changes_the_stem_is_noticed() -> None:
    """Where the last token melts with what follows, it must be there to be taken off."""
    server = Server(melting)
    changed = server.text
    server.text = lambda body: changed(body) + ("" if "prompt" in body else "!")  # type: ignore[method-assign]
    with pytest.raises(RequestFailed, match="chat template"):
        choose(server, "**Score:**\n")


def test_a_conversation_that_does_not_fit_is_told_apart() -> None:
    server = Server(spaced)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/tokenize":
            return server(request)
        message = "This model's maximum context length is 9 tokens. However, your prompt contains 12."
        return httpx.Response(400, json={"error": {"message": message}})

    with pytest.raises(PromptTooLong):
        choose(answer, "Score: ")
