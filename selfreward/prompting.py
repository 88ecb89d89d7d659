"""Prompt templates, files with declared variables, and the cleaning of prompts that a model wrote."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from selfreward.errors import BadInput
from selfreward.resources import shipped_dir

SUFFIX = ".jinja"


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """A prompt with holes. `digest` is the sha256 of its text; `variables` are the holes, all needed."""

    name: str
    text: str
    digest: str
    variables: frozenset[str]
    _compiled: Template = field(repr=False, compare=False)

    def render(self, /, **fields: object) -> str:
        """The prompt with every variable filled in, once: template syntax inside a value stays as it is.

        Raises BadInput unless `fields` are exactly the template's variables.
        """
        self.require(fields)
        try:
            return self._compiled.render(fields)
        except TemplateError as error:
            raise BadInput(f"template {self.name} cannot be filled in: {error}") from error

    def require(self, names: Iterable[str]) -> "PromptTemplate":
        """This template, if its variables are exactly `names`; else BadInput, before any work is done."""
        wanted = frozenset(names)
        lacking, unknown = sorted(wanted - self.variables), sorted(self.variables - wanted)
        if not lacking and not unknown:
            return self
        faults = [f"has no {{{{ {name} }}}}" for name in lacking]
        faults += [f"wants {{{{ {name} }}}}, which is not given here" for name in unknown]
        raise BadInput(
            f"template {self.name} {' and '.join(faults)}",
            f"Its variables: {_listed(self.variables)}. Given: {_listed(wanted)}.",
        )


def load_template(name: str, run_dir: Path) -> PromptTemplate:
    """The template `name`: a path from the run's directory, else one that ships.

    A file of the same name in the run's directory comes first, so a copy can be edited in place.
    Raises BadInput with file and line for what cannot be read or parsed.
    """
    path = _find(name, run_dir)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"template {path} cannot be read: {error}") from None
    return _parse(name, text, path)


def parse_template(name: str, text: str) -> PromptTemplate:
    """A template from its text. Raises BadInput as `load_template` does."""
    return _parse(name, text, Path(name))


def shipped_templates() -> list[str]:
    """Names of the templates that ship, sorted."""
    return sorted(path.name for path in shipped_dir("prompts").glob(f"*{SUFFIX}"))


def _find(name: str, run_dir: Path) -> Path:
    path = run_dir / name
    if path.is_file():
        return path
    if name in shipped_templates():
        return shipped_dir("prompts") / name
    raise BadInput(
        f"there is no template {name!r}: no file {path}",
        f"Templates that ship: {', '.join(shipped_templates())}.",
    )


def _parse(name: str, text: str, path: Path) -> PromptTemplate:
    environment = _environment()
    try:
        tree = environment.parse(text)
        compiled = environment.from_string(text)
    except TemplateSyntaxError as error:
        raise BadInput(f"{path} line {error.lineno}: {error.message}") from None
    if any(True for _ in meta.find_referenced_templates(tree)):
        # Its digest is stored with all it made, and must stand for the whole of it.
        raise BadInput(f"{path} includes another template", "Write the whole prompt in one file.")
    return PromptTemplate(
        name=name,
        text=text,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        variables=frozenset(meta.find_undeclared_variables(tree)),
        _compiled=compiled,
    )


def _environment() -> ImmutableSandboxedEnvironment:
    """Sandboxed, strict, and deterministic: no globals (one is random), no `random` filter."""
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.clear()
    del environment.filters["random"]
    return environment


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


_PREAMBLE = re.compile(
    r"(?:sure|certainly|of course|okay|here(?:['’]s|\s+is)?)\b[^\n]*:[*_]{0,3}[ \t]*\n",  # noqa: RUF001
    re.IGNORECASE,
)
_BOLD = r"(?P<bold>\*\*|__)?"
_WORD = r"(?:new[ ]+)?(?:task|instruction|prompt|question)"
_LABEL = re.compile(
    rf"""
    [#>\s]* {_BOLD}
    (?: \d{{1,3}} (?P<bold_before>\*\*|__)? [.)] (?P<bold_after>\*\*|__)? (?=\s|$)
      | {_WORD} (?:[ ]?\#?\d{{1,3}})? (?P<bold_inside>\*\*|__)? [ ]* : (?P<bold_outside>\*\*|__)?
    ) \s*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NUMBERED_LINE = re.compile(
    r"^[ \t#>]*(?:\*\*|__)?(?P<number>[0-9]{1,3})(?:\*\*|__)?[.)](?=[\s*_]|$)", re.MULTILINE
)
_NEXT_TASK_LINE = re.compile(
    rf"^[ \t#>]*(?:\*\*|__)?{_WORD}[ ]?#?\d{{1,3}}(?:\*\*|__)?[ ]*:", re.IGNORECASE | re.MULTILINE
)
_WRAPPERS = ("**", "**"), ("__", "__"), ('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("`", "`")  # noqa: RUF001


def clean_written_prompt(raw: str) -> str:
    """The one task in a model's raw reply, without what surrounds it.

    Takes off a preamble ("Sure, here is a new task:"), a number or label ("9.", "Task 9:",
    "Instruction:"), quotes and bold around the whole, and drops any further task. A numbered list
    inside the task (it starts at 1) stays. Cleaning twice changes nothing more.
    """
    text = raw.strip()
    while (cleaned := _peel(text)) != text:
        text = cleaned
    return text


def _peel(text: str) -> str:
    """One layer less."""
    preamble = _PREAMBLE.match(text)
    text = text[preamble.end() :] if preamble else text
    return _unwrap(_first_task(_unlabel(text)).strip())


def _unlabel(text: str) -> str:
    """`text` without a leading number or label. Bold that the label opens for the task too is kept."""
    label = _LABEL.match(text)
    if not label:
        return text
    closed = any(label[name] for name in ("bold_before", "bold_after", "bold_inside", "bold_outside"))
    return (label["bold"] or "" if not closed else "") + text[label.end() :]


def _first_task(text: str) -> str:
    """`text` up to the line on which another numbered task begins."""
    starts = [found.start() for found in _NEXT_TASK_LINE.finditer(text)]
    previous = 0
    for found in _NUMBERED_LINE.finditer(text):
        number = int(found["number"])
        continues = number == 1 or (previous > 0 and number == previous + 1)
        if not continues:
            starts.append(found.start())
            break
        previous = number
    return text[: min((start for start in starts if start), default=len(text))]


def _unwrap(text: str) -> str:
    """`text` without one pair of quotes or bold marks, if they open and close around the whole."""
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        wrapped = len(text) >= len(opening + closing) and text.startswith(opening) and text.endswith(closing)
        if wrapped and opening not in inner and closing not in inner:
            return inner.strip()
    return text
