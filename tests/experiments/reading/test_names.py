"""Names in running text."""

from __future__ import annotations

import pytest

from bnrnn.experiments.reading.names import Names, capitalised, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('He said: "It\'s 5." Well-known @entity1!', ["He", "said", ":", '"', "It's", "5", ".", '"', "Well-known",
                                                     "@entity1", "!"]),
        ("Zoë's café, (twice)", ["Zoë's", "café", ",", "(", "twice", ")"]),
        ("", []),
    ],
)  # fmt: skip
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The bank of Kofi Annan and the Bank of England met Annan.", ["Kofi Annan", "Bank of England", "Annan"]),
        ("Ann runs. Bob saw Ann.", ["Ann"]),
        ("Then Mary left. Dogs bark, and dogs bite. United Nations met.", ["Mary", "United Nations"]),
        ("I met I.", []),
        ('He said: "Paris is far." Paris? Yes, in Paris.', ["Paris"]),
    ],
)
def test_names_are_guessed_from_capital_letters(text: str, names: list[str]) -> None:
    assert capitalised(tokens(text)) == names


def test_the_longest_name_that_fits_is_hidden_and_shown_again() -> None:
    names = Names(["@entity0", "@entity1", "@entity2"], ["Kofi Annan", "Kofi", "UN=@entity2", "Annan"], [])
    hidden = names.hide(tokens("KOFI ANNAN met Kofi at the UN; Annan left"))
    assert hidden == ["@entity0", "met", "@entity1", "at", "the", "@entity2", ";", "@entity0", "left"]
    assert [names.show(word) for word in hidden][:3] == ["Kofi Annan", "met", "Kofi"]


def test_markers_in_the_text_are_not_given_to_names() -> None:
    names = Names(["@entity0", "@entity1"], ["Ann"], ["@entity0", "met", "ann"])
    assert names.hide(["@entity0", "met", "Ann"]) == ["@entity0", "met", "@entity1"]
    with pytest.raises(ValueError, match="2 markers, too few"):
        Names(["@entity0", "@entity1"], ["Ann", "Bob"], ["@entity0"])
    with pytest.raises(ValueError, match="empty name"):
        Names(["@entity0"], ["=@entity0"], [])
