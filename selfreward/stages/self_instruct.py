"""M_t writes new prompts from demonstrations (Self-Instruct, arXiv 2212.10560); filters choose."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from selfreward.dedupe import Nearest, RougePool, first_objection
from selfreward.engines.base import ChatMessage, Engine, PromptTooLong
from selfreward.prompting import clean_written_prompt, load_template
from selfreward.stages.workplace import Workplace
from selfreward.types import (
    Completion,
    PromptRow,
    PromptStatus,
    RejectReason,
    Split,
    StageName,
    StageRow,
    WrittenPrompt,
)

TEMPLATE_FIELDS = ("demonstrations",)
TEMPLATES = {"completion": "self_instruct.jinja", "chat": "self_instruct_chat.jinja"}


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One request for new prompts. Its id is its number in the iteration, from 1."""

    id: int
    demonstrations: tuple[PromptRow, ...]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One text that came back for a draw."""

    draw: Draw
    index: int
    completion: Completion | None
    """None when the request failed for good."""


class SelfInstruct:
    """The work of the self_instruct stage: asks until enough prompts are accepted or the tries run out."""

    name = StageName.SELF_INSTRUCT

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine) -> None:
        self._place, self._stage, self._engine = place, stage, engine
        self._settings = place.settings.self_instruct
        name = self._settings.template or TEMPLATES[self._settings.mode]
        self._template = load_template(name, place.directory).require(TEMPLATE_FIELDS)
        self._accepted, self._written, self._last_draw = place.store.prompts.tally(place.data_iteration)
        self._asked = self._answered = 0
        self._outcomes: Counter[str] = Counter()
        self._stored: set[tuple[int, int]] = set()
        """Replies of a commit that broke off, which comes again: those before the break."""

    @cached_property
    def _seeds(self) -> list[PromptRow]:
        return self._place.store.prompts.seeds(self._place.run.id)

    @cached_property
    def _own(self) -> list[int]:
        """Ids of what was accepted, from the first fetch on: a stage that is done needs none of it."""
        return self._place.store.pool.ids(self._place.run.id)

    @cached_property
    def _pool(self) -> RougePool:
        """What new prompts are kept apart from, made at the first decision: requests do not wait for it.

        What is held out is never shown, but what resembles it is turned away: it must stay unseen.
        """
        prompts, run_id = self._place.store.prompts, self._place.run.id
        pool = RougePool(self._settings.max_rouge_l)
        for prompt in (*self._seeds, *prompts.seeds(run_id, Split.HELD_OUT), *prompts.written(run_id)):
            pool.add(prompt.id, prompt.text)
        return pool

    def total(self) -> int:
        """Prompts wanted."""
        return self._settings.target

    def done(self) -> int:
        """Prompts accepted."""
        return self._accepted

    def exhausted(self) -> bool:
        """Whether the target, or the cap of attempts, is reached."""
        return self._accepted >= self._settings.target or self._written >= self._settings.max_attempts

    def fetch(self, after: int, room: int) -> list[Draw]:
        """As many draws as the target still needs at the yield so far, less those in flight."""
        settings = self._settings
        if self.exhausted():
            return []
        yield_so_far = (self._accepted + 4) / (self._written + 5)
        wanted = math.ceil((settings.target - self._accepted) / yield_so_far / settings.per_request)
        allowed = math.ceil((settings.max_attempts - self._written) / settings.per_request)
        count = max(0, min(room, wanted, allowed) - (self._asked - self._answered))
        first = self._last_draw + 1
        draws = self._draws({number: self._choose(number) for number in range(first, first + count)})
        self._asked += count
        self._last_draw += count
        return draws

    async def perform(self, item: Draw) -> list[Reply]:
        """The replies to one set of demonstrations."""
        shown = [demonstration.text for demonstration in item.demonstrations]
        text = self._template.render(demonstrations=shown)
        ask = {"completion": self._complete, "chat": self._chat}[self._settings.mode]
        try:
            completions = await ask(text, len(shown))
        except PromptTooLong as error:
            return self.give_up(item, str(error))
        return [Reply(draw=item, index=index, completion=reply) for index, reply in enumerate(completions)]

    async def _complete(self, text: str, shown: int) -> list[Completion]:
        """The model goes on with the numbered list, up to where the item after the next begins."""
        stop = ("\n\n", f"\n{shown + 2}.")
        return await self._engine.complete(text, self._settings, self._settings.per_request, stop)

    async def _chat(self, text: str, shown: int) -> list[Completion]:
        """The model is asked for one more task."""
        message: ChatMessage = {"role": "user", "content": text}
        return await self._engine.chat([message], self._settings, self._settings.per_request)

    def give_up(self, item: Draw, error: str) -> list[Reply]:
        """A draw that failed for good counts against the cap, so that the stage always ends."""
        return [Reply(draw=item, index=0, completion=None)]

    def commit(self, results: Sequence[Reply], cursor: int) -> int:
        """Decide each reply and store it at once: the next decision depends on what was accepted."""
        before = self._accepted
        for reply in results:
            if (reply.draw.id, reply.index) in self._stored:
                continue
            written = self._decide(reply)
            key = self._place.store.prompts.add_written(
                self._place.run.id, self._place.data_iteration, self._stage.id, written
            )
            self._count(written, key)
            self._stored.add((reply.draw.id, reply.index))
        self._stored.clear()
        self._answered += len({reply.draw.id for reply in results})
        return self._accepted - before

    def detail(self) -> str:
        """How it ended."""
        reached = (
            "target reached"
            if self._accepted >= self._settings.target
            else f"cap of {self._settings.max_attempts} attempts reached before the target"
        )
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._outcomes.most_common())
        rejected = f"; rejected in this session: {reasons}" if reasons else ""
        return f"{reached}: {self._accepted} of {self._written} written prompts accepted{rejected}"

    def _choose(self, number: int) -> list[int]:
        """Ids of the demonstrations of draw `number`: the same ones for the same seed, run, iteration and
        pool."""
        place, settings = self._place, self._settings
        generator = random.Random(f"{place.settings.seed}:{place.run.name}:{place.iteration.t}:{number}")
        own = generator.sample(self._own, min(settings.model_demonstrations, len(self._own)))
        from_seeds = settings.seed_demonstrations + settings.model_demonstrations - len(own)
        seeds = generator.sample(self._seeds, min(from_seeds, len(self._seeds)))
        shown = [*(seed.id for seed in seeds), *own]
        generator.shuffle(shown)
        return shown

    def _draws(self, chosen: Mapping[int, Sequence[int]]) -> list[Draw]:
        """Draws by their numbers, with the texts of what they show."""
        seeds = {seed.id: seed.text for seed in self._seeds}
        own = {key for shown in chosen.values() for key in shown} - seeds.keys()
        texts = seeds | self._place.store.pool.texts(own)
        return [
            Draw(id=number, demonstrations=tuple(PromptRow(id=key, text=texts[key]) for key in shown))
            for number, shown in chosen.items()
        ]

    def _decide(self, reply: Reply) -> WrittenPrompt:
        completion = reply.completion
        text = clean_written_prompt(completion.text) if completion else ""
        cut_off = completion is not None and _cut_off(completion, text)
        reason = first_objection(text, cut_off, self._settings)
        nearest: Nearest | None = None
        if reason is None:
            nearest = self._pool.nearest(text)
            if self._pool.too_similar(nearest):
                reason = RejectReason.SIMILAR
            elif self._accepted >= self._settings.target:
                reason = RejectReason.SURPLUS
        return WrittenPrompt(
            draw=reply.draw.id,
            draw_index=reply.index,
            text=text,
            status=PromptStatus.ACCEPTED if reason is None else PromptStatus.REJECTED,
            reject_reason=reason,
            nearest_prompt_id=nearest.key if nearest else None,
            nearest_rouge_l=nearest.rouge_l if nearest else None,
            demonstration_ids=tuple(shown.id for shown in reply.draw.demonstrations),
        )

    def _count(self, written: WrittenPrompt, key: int) -> None:
        self._written += 1
        if written.reject_reason is not None:
            self._outcomes[written.reject_reason] += 1
            return
        self._accepted += 1
        self._pool.add(key, written.text)
        self._own.append(key)


def _cut_off(completion: Completion, text: str) -> bool:
    """Whether the length limit cut the task itself, and not only what the model wrote after it."""
    return completion.finish_reason == "length" and completion.text.rstrip().endswith(text)
