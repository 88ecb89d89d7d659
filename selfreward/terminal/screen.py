"""Where a run stands, on a screen of any size: parts that give way to others when there is little room."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from selfreward.progress import RunStatus
from selfreward.terminal import figure_parts, parts, stage_lines
from selfreward.terminal.drawing import Forms, in_ascii

Lines = Sequence[Text]
Draw = Callable[[RunStatus, int], Forms]
"""(status, columns) → forms of a part, each of fewer lines than the one before it."""

PARTS: tuple[tuple[str, Draw], ...] = (
    ("head", parts.head),
    ("stages", stage_lines.stages),
    ("engine", parts.engine),
    ("scores", figure_parts.scores),
    ("pairs", figure_parts.pairs),
    ("training", figure_parts.training),
    ("gates", figure_parts.gates),
    ("evaluation", figure_parts.evaluation),
    ("checkpoints", parts.checkpoints),
    ("events", parts.events),
)
GIVE_WAY = (
    *("events", "checkpoints", "events", "scores", "training", "gates", "events", "stages"),
    *("evaluation", "events", "scores", "checkpoints", "gates", "pairs", "scores", "engine"),
    *("training", "stages", "head", "events"),
)
"""Which part takes its next form when there is too little room, one after the other."""
FEW_EVENTS = (5, 3, 1, 0)
"""How many there are while room is sought for the other parts."""
GROUPS = (
    ("stages",),
    ("engine", "scores", "pairs", "training", "gates", "evaluation", "checkpoints"),
    ("events",),
)
"""Parts with an empty line above the first of them, where there is room."""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A status to print: in the height of the terminal, or in whatever height it needs."""

    status: RunStatus
    fitted: bool = False
    """Not higher than the terminal."""
    above: Text | None = None
    """A line on top: what keeps the screen from being up to date."""
    below: Text | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """All lines, none of them wider than the console."""
        height = (options.height or console.height) if self.fitted else None
        for line in lines(self, options.max_width, height):
            shown = in_ascii(line) if options.ascii_only else line
            shown.truncate(options.max_width, overflow="ellipsis")
            shown.no_wrap = True
            yield shown


def lines(screen: Screen, width: int, height: int | None) -> list[Text]:
    """The lines of a screen of so many columns, and at most so many lines."""
    forms = {name: [*draw(screen.status, width)] for name, draw in PARTS}
    frame = [line for line in (screen.above, screen.below) if line is not None]
    room = None if height is None else max(1, height - len(frame))
    if room is not None:
        events = forms["events"]
        forms["events"] = [form for form in events if len(form) in FEW_EVENTS]
        _shrink(forms, room)
        _fill(forms, events, room)
    drawn = _joined(forms, room)[:room]
    if screen.below is not None and room is not None:
        drawn += [Text()] * (room - len(drawn))
    return [*([screen.above] if screen.above else []), *drawn, *([screen.below] if screen.below else [])]


def _shrink(forms: dict[str, list[Lines]], room: int | None) -> None:
    """Drop forms from the front until what is left fits."""
    for name in GIVE_WAY:
        if room is None or sum(len(form[0]) for form in forms.values()) <= room:
            return
        if len(forms[name]) > 1:
            forms[name].pop(0)


def _fill(forms: dict[str, list[Lines]], events: Sequence[Lines], room: int) -> None:
    """What room is left is for events."""
    used = sum(len(form[0]) for name, form in forms.items() if name != "events") + len(GROUPS)
    most = max(len(forms["events"][0]), room - used)
    forms["events"] = [next(form for form in events if len(form) <= most)]


def _joined(forms: dict[str, list[Lines]], room: int | None) -> list[Text]:
    used = sum(len(form[0]) for form in forms.values())
    airy = room is None or used + len(GROUPS) <= room
    firsts = {next((name for name in group if forms[name][0]), "") for group in GROUPS} if airy else set()
    found: list[Text] = []
    for name, form in forms.items():
        found += [*([Text()] if name in firsts else []), *form[0]]
    return found
