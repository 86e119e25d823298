"""Sentences and claims: no number of a person's own, no comparison without what backs it; and the study's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from budgetnet.aim import Aim, read_aim
from budgetnet.errors import ModelError, StudyError
from budgetnet.sentences import Fact, Sentence, fill, sentences_of

FACTS = {
    "mean": Fact("99.50 %", 0.995),
    "previous_mean": Fact("99.40 %", 0.994),
    "difference_low": Fact("-0.02 points", -0.0002),
    "study": Fact("mnist-8000"),
}


def test_a_template_cannot_hold_a_number_of_its_own() -> None:
    facts = {"mean": Fact("99.50 %"), "{x}": Fact("no")}
    assert fill("It ends at {mean}.", facts) == "It ends at 99.50 %."
    assert fill("{a}", {"a": Fact("{mean}"), "mean": Fact("9")}) == "{mean}"  # a fact is never filled in again
    for template in ("It ends at 99.5 %.", "half a brace {mean", "{mean:.3f}", "{mean.real}", "{mean[0]}", "٣"):
        with pytest.raises(ModelError, match="a sentence names its numbers as"):
            fill(template, facts)
    with pytest.raises(ModelError, match="there is no fact 'median'; there are mean"):
        fill("{median}", {"mean": Fact("9")})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It ends at 99.5 %.", "9"),
        ("All ten seeds held.", "ten"),
        ("Twice as steady.", "Twice"),
        ("half of the seeds", "half"),
        ("seventeen seeds", "seventeen"),
        ("a third of them", "third"),
        ("a fifth of it", "fifth"),
        ("a tenfold gain", "tenfold"),
        ("½ a point", "½"),
        ("one point ahead", "one point"),
        ("{mean", "{"),
        ("{mean:.2f}", "{"),
    ],
)
def test_a_person_cannot_spell_out_a_number(text: str, found: str) -> None:
    with pytest.raises(ModelError) as caught:
        Sentence(text)
    assert str(caught.value).endswith(f"but {text!r} spells out {found!r}")


@pytest.mark.parametrize(
    "text", ["One cell sees it all.", "The first seed is kept.", "Often, a weight is even.", "{mean}"]
)
def test_words_that_only_look_like_numbers_may_stay(text: str) -> None:
    assert Sentence(text).text == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is better.", "better"),
        ("It ends above {previous}.", "above"),
        ("Dropout improved it.", "improved"),
        ("It ends with more.", "more"),
        ("It surpasses {previous}.", "surpasses"),
        ("The same as before.", "same"),
        ("Other than the noise.", "than"),
        ("It BEATS the record.", "BEATS"),
        ("It equals the skeleton.", "equals"),
    ],
)
def test_a_comparison_needs_its_claim(text: str, found: str) -> None:
    with pytest.raises(ModelError) as caught:
        Sentence(text)
    assert f"compares ({found!r}), so it needs a claim that backs it, such as mean > previous_mean" in str(caught.value)
    assert Sentence(text, "mean > previous_mean").claim == "mean > previous_mean"


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ("mean > previous_mean", True),
        ("previous_mean>mean", False),
        ("mean >= mean and mean = mean", True),
        ("mean > mean", False),
        ("difference_low > 0", False),
        ("difference_low < 0 and mean > 0", True),
        ("0 <= mean and mean < previous_mean", False),
        ("", True),
    ],
)
def test_a_claim_is_checked_when_the_sentence_is_said(claim: str, holds: bool) -> None:
    sentence = Sentence("It ends at {mean}.", claim)
    if holds:
        assert sentence.said(FACTS) == "It ends at 99.50 %."
        return
    with pytest.raises(ModelError, match=r"^'It ends at \{mean\}\.' claims .*, but that is "):
        sentence.said(FACTS)


@pytest.mark.parametrize(
    "claim", ["mean", "mean >", "mean > 99.4", "mean > 0.5", "mean > 1", "mean > a or b", "mean => b"]
)
def test_a_claim_that_reads_otherwise_is_refused(claim: str) -> None:
    with pytest.raises(ModelError, match="a claim reads like mean > previous_mean or difference_low > 0, but got "):
        Sentence("It is so.", claim)


def test_a_claim_compares_numbers_only() -> None:
    with pytest.raises(
        ModelError, match=r"the fact 'study' is no number that can be compared; these are: difference_low"
    ):
        Sentence("It is so.", "study > mean").said(FACTS)
    with pytest.raises(ModelError, match="there is no fact 'median'"):
        Sentence("It is so.", "median > mean").said(FACTS)


def test_sentences_of_a_file() -> None:
    assert sentences_of("One  line\nfolded.", "aim") == (Sentence("One line folded."),)
    assert sentences_of(["a", {"text": "b"}], "aim") == (Sentence("a"), Sentence("b"))
    round_trip = Sentence("It is better.", "mean > 0")
    assert Sentence.from_dict(round_trip.to_dict()) == round_trip
    for wrong in (3, {"text": "a", "sure": "yes"}, {"text": 3}, None, [["a"]]):
        with pytest.raises(ModelError, match=r"^aim\[0\]: a sentence must be a text, or text and claim, but is "):
            sentences_of(wrong if isinstance(wrong, list) else [wrong], "aim")


# --- the study's file -------------------------------------------------------------------------------------------------

FILE = """
target: 99
last: 3
aim: Why {budget} params are enough.
analysis:
  - It ends at {mean}.
  - {text: It is better., claim: mean > previous_mean}
"""


def test_the_file_of_a_study(tmp_path: Path) -> None:
    assert read_aim(tmp_path) == Aim(0.994, 5, place=tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text(FILE)
    aim = read_aim(tmp_path)
    assert (aim.target, aim.last) == (0.99, 3)
    assert aim.why == (Sentence("Why {budget} params are enough."),)
    assert aim.analysis == (Sentence("It ends at {mean}."), Sentence("It is better.", "mean > previous_mean"))
    asked = read_aim(tmp_path, target=0.5, last=1)
    assert (asked.target, asked.last, asked.why) == (0.5, 1, aim.why)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be a mapping with about, target, last, aim, analysis, but is [1]"),
        ("", "must be a mapping with about, target, last, aim, analysis, but is None"),
        ("tarket: 99", "tarket: must be one of about, target, last, aim, analysis"),
        ("target: high", "target: must be a percentage, but is 'high'"),
        ("target: 9940", "target must be from 1 to 100 percent, but is 9940"),
        ("target: 0.994", "target must be from 1 to 100 percent, but is 0.994"),
        ("target: .nan", "target must be from 1 to 100 percent, but is nan"),
        ("last: 2.5", "last: must be a whole number of epochs, but is 2.5"),
        ("last: 0", "last must be at least 1 epoch, but is 0"),
        ("aim: It holds 99.4 %.", "aim[0]: a number is written as the name of a fact"),
        ("analysis: [a, It is better.]", "analysis[1]: 'It is better.' compares ('better')"),
        ("analysis: [{mean} is fine]", "is not YAML: "),
        (
            "aim: {mean}",
            "aim[0]: a sentence must be a text, or text and claim, but is {'mean': None}; one that begins with {",
        ),
        ("analysis: [{claim: mean > 0}]", "analysis[0]: a sentence needs a text"),
        ("a: !!python/object/apply:os.system [ls]", "is not YAML: "),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as caught:
        read_aim(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").mkdir()
    with pytest.raises(StudyError, match=r"study\.yaml: cannot be read: Is a directory"):
        read_aim(tmp_path)
