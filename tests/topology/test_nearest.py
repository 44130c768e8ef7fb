from slstream.topology.nearest import hint


def test_the_nearest_name_is_asked_for() -> None:
    assert hint("idd", ["path", "id"]) == '; did you mean "id"? (known: id, path)'


def test_case_does_not_hide_a_near_name() -> None:
    assert hint("MALIGNANT", ["malignant", "age"]).startswith('; did you mean "malignant"?')


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    assert hint("zzz", ["path", "id"]) == " (known: id, path)"


def test_long_lists_are_cut() -> None:
    assert hint("zzz", [f"c{i:02}" for i in range(15)]).endswith("c11 and 3 more)")


def test_no_known_name() -> None:
    assert hint("a", []) == " (none is known)"
