import pytest

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("name", ["polynorm", "swiglu"])
def test_a_registered_activation_is_drawn(polycom, tmp_path, name):
    outcome = polycom("analyze", "activation", name, "--output", tmp_path / "new")
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == str(tmp_path / "new" / f"activation-{name}.png")
    assert (tmp_path / "new" / f"activation-{name}.png").read_bytes().startswith(PNG)


def test_a_trained_activation_is_drawn(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config).code == 0
    outcome = polycom("analyze", "activation", tmp_path / "runs" / "tiny", "--output", tmp_path / "figures")
    assert outcome.code == 0, outcome.err
    (picture,) = (tmp_path / "figures").iterdir()
    assert picture.name.startswith("activation-tiny-") and picture.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("polynrom",), "unknown activation 'polynrom'; did you mean polynorm"),
        (("runs/none",), "runs/none does not exist"),
        (("polynorm", "--std", "0"), "std: found 0.0; it must be above 0"),
    ],
)
def test_mistakes_are_one_line(polycom, arguments, message):
    outcome = polycom("analyze", "activation", *arguments)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.strip().count("\n") == 0
