"""Templates with declared variables, and one clean task out of a model's raw reply."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.errors import BadInput
from selfreward.judging import parse_score
from selfreward.prompting import PromptTemplate, clean_written_prompt, load_template, shipped_templates
from selfreward.types import JudgementStatus


def template(directory: Path, text: str) -> PromptTemplate:
    (directory / "mine.jinja").write_text(text, encoding="utf-8")
    return load_template("mine.jinja", directory)


def test_shipped_templates_have_the_variables_the_stages_give(tmp_path: Path) -> None:
    wanted = {
        "compare.jinja": {"prompt", "first", "second"},
        "judge_meta.jinja": {"prompt", "response", "rubric", "first", "second"},
        "judge_pairwise.jinja": {"prompt", "first", "second", "reasoning"},
        "judge_rubric.jinja": {"prompt", "response"},
        "judge_score.jinja": {"prompt", "response"},
        "judge_yes_no.jinja": {"prompt", "response"},
        "self_instruct.jinja": {"demonstrations"},
        "self_instruct_chat.jinja": {"demonstrations"},
    }
    assert shipped_templates() == sorted(wanted)
    for name, variables in wanted.items():
        loaded = load_template(name, tmp_path)
        assert loaded.require(variables) is loaded


def test_the_rubric_comes_first_then_the_prompt_then_the_response(tmp_path: Path) -> None:
    """The server's prefix cache shares the rubric among all calls and the prompt among its answers."""
    judge = load_template("judge_rubric.jinja", tmp_path)
    text = judge.render(prompt="PROMPT", response="RESPONSE")
    assert text.index("5 points") < text.index("PROMPT") < text.index("<response>\nRESPONSE\n</response>")
    assert text.endswith("Score: <total>")
    assert parse_score(text)[0] == JudgementStatus.UNREADABLE, "an echo of the rubric is not a judgement"


def test_the_list_to_go_on_with_ends_in_the_next_number(tmp_path: Path) -> None:
    writer = load_template("self_instruct.jinja", tmp_path)
    text = writer.render(demonstrations=["Name a river.", "Add 2 and {{ 3 }}."])
    assert text.endswith("1. Name a river.\n2. Add 2 and {{ 3 }}.\n3.")


def test_the_chat_message_numbers_its_demonstrations(tmp_path: Path) -> None:
    writer = load_template("self_instruct_chat.jinja", tmp_path)
    text = writer.render(demonstrations=["Name a river.", "Add 2 and {{ 3 }}."])
    assert "Task 1: Name a river.\n\nTask 2: Add 2 and {{ 3 }}.\n" in text
    assert text.startswith("Below are 2 examples")


def test_digest_and_name(tmp_path: Path) -> None:
    mine = template(tmp_path, "Hé {{ x }}\n")
    assert mine.name == "mine.jinja"
    assert mine.digest == hashlib.sha256("Hé {{ x }}\n".encode()).hexdigest()
    assert mine.variables == {"x"}
    assert mine.render(x=1) == "Hé 1"
    assert mine == load_template("mine.jinja", tmp_path)


def test_a_file_of_the_run_comes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "judge_rubric.jinja").write_text("{{ prompt }}: {{ response }}")
    assert load_template("judge_rubric.jinja", tmp_path).render(prompt="a", response="b") == "a: b"


def test_paths_below_above_and_absolute(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "prompts").mkdir(parents=True)
    (run / "prompts" / "a.jinja").write_text("below")
    (tmp_path / "b.jinja").write_text("above")
    assert load_template("prompts/a.jinja", run).render() == "below"
    assert load_template("../b.jinja", run).render() == "above"
    assert load_template(str(tmp_path / "b.jinja"), run).render() == "above"


@pytest.mark.parametrize(
    "value", ["{{ x }}", "{% for %}", "{# #}", "{{ 7 * 7 }}", "<b>&amp;</b>", "a\n\n", "{", "%s {0}"]
)
def test_values_are_put_in_once_and_literally(tmp_path: Path, value: str) -> None:
    assert template(tmp_path, "[{{ x }}|{{ y }}]").render(x=value, y="{{ x }}") == f"[{value}|{{{{ x }}}}]"


@given(st.text())
def test_any_value_stays_literal(value: str) -> None:
    text = load_template("judge_rubric.jinja", Path()).render(prompt="p", response=value)
    assert f"<response>\n{value}\n</response>" in text


def test_missing_and_extra_fields_are_listed(tmp_path: Path) -> None:
    mine = template(tmp_path, "{{ a }} {{ b }}")
    with pytest.raises(BadInput, match=r"mine\.jinja has no .. c .. and wants .. b ..") as caught:
        mine.render(a=1, c=2)
    assert "Its variables: a, b. Given: a, c." in caught.value.hint
    with pytest.raises(BadInput, match="wants"):
        mine.require({"a"})
    with pytest.raises(BadInput, match="has no"):
        mine.require({"a", "b", "c"})


@pytest.mark.parametrize(("text", "line"), [("ok\n{{ a", 2), ("a\nb\n{% if %}", 3), ("{{ a | nope }}", 1)])
def test_syntax_errors_name_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(BadInput, match=rf"mine\.jinja line {line}: "):
        template(tmp_path, text)


def test_a_missing_file_lists_the_shipped_ones(tmp_path: Path) -> None:
    for name in ("judge_rubic.jinja", "", "../pyproject.toml"):
        with pytest.raises(BadInput, match="there is no template") as caught:
            load_template(name, tmp_path)
        assert "judge_rubric.jinja, judge_score.jinja" in caught.value.hint


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "bad.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"bad\.jinja cannot be read"):
        load_template("bad.jinja", tmp_path)


@pytest.mark.parametrize("text", ["{% include 'x' %}", "{% extends a %}", "{% import 'x' as y %}"])
def test_a_template_is_one_whole_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="includes another template"):
        template(tmp_path, text)


@pytest.mark.parametrize("text", ["{{ x.nope }}", "{{ x.__class__.__mro__ }}", "{{ x.append(1) }}"])
def test_the_sandbox_and_undefined_values(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"mine\.jinja cannot be filled in"):
        template(tmp_path, text).render(x=[1])


def test_templates_cannot_draw_at_random(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="random"):
        template(tmp_path, "{{ x | random }}")
    assert template(tmp_path, "{{ lipsum }}").variables == {"lipsum"}


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Name a river.", "Name a river."),
        ("  Name a river.\n\n", "Name a river."),
        ("9. Name a river.", "Name a river."),
        ("9) Name a river.", "Name a river."),
        ("**9.** Name a river.", "Name a river."),
        ("**9. Name a river.**", "Name a river."),
        ("Task 9: Name a river.", "Name a river."),
        ("**Task 9:** Name a river.", "Name a river."),
        ("**Task 9**: Name a river.", "Name a river."),
        ("### Task 9: Name a river.", "Name a river."),
        ("**Task 9: Name a river.**\n\n**Task 10: Name a sea.**", "Name a river."),
        ("**9. Name a river.**\n**10. Name a sea.**", "Name a river."),
        ("Task: Name a river.", "Name a river."),
        ("New task: Name a river.", "Name a river."),
        ("Instruction: Name a river.", "Name a river."),
        ("9. Instruction:\nName a river.", "Name a river."),
        ('"Name a river."', "Name a river."),
        ("“Name a river.”", "Name a river."),
        ('9. "**Name a river.**"', "Name a river."),
        ("Sure! Here is a new task:\n\n9. Name a river.", "Name a river."),
        ("Here's one more task:\nName a river.\n10. Name a sea.", "Name a river."),
        ("Name a river.\n\n10. Name a sea.\n11. Name a hill.", "Name a river."),
        ("Name a river.\nTask 10: Name a sea.", "Name a river."),
        ("1. Name a river.\n2. Name a sea.", "Name a river."),
        ("9.", ""),
        ("", ""),
        ('""', ""),
    ],
)
def test_one_clean_task(raw: str, clean: str) -> None:
    assert clean_written_prompt(raw) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Sort these words:\n1. pear\n2. apple\n3. fig",
        "Sort these:\n1. pear\n2. fig\n\nand these:\n1. oak\n2. elm",
        "3.14 is how exact as a value of pi?",
        "5 ways to save water, please.",
        '"Yes" and "no" are translated how?"',
        "Who wrote 'Emma' and 'Persuasion'",
        "**Bold** words and **more bold**",
        "Instructions for tea, please.",
        "Task management: explain it.",
        "Here is my list of fruit: pear, fig. Sort it.",
        "What is `ls`",
    ],
)
def test_a_task_that_only_looks_wrapped_is_left_alone(text: str) -> None:
    assert clean_written_prompt(text) == text


PIECES = ["9. ", "1. ", "10) ", "Task 3: ", "**", '"', "\n", "words ", "Sure:\n", "Task:", "__", "#", " "]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=16).map("".join)))
def test_cleaning_twice_changes_nothing_more(raw: str) -> None:
    once = clean_written_prompt(raw)
    assert clean_written_prompt(once) == once
    assert once == once.strip()
    assert "**" in raw or "__" in raw or once in raw
