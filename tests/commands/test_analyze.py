import io

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PNG = b"\x89PNG\r\n\x1a\n"


def images(folder) -> dict[str, list[int]]:
    """Steps of every image tag in the event files of a folder; each image must decode to its stated size."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    tags = {tag: events.Images(tag) for tag in events.Tags()["images"]}
    for event in (event for of_tag in tags.values() for event in of_tag):
        assert Image.open(io.BytesIO(event.encoded_image_string)).size == (event.width, event.height)
    return {tag: [event.step for event in of_tag] for tag, of_tag in tags.items()}


@pytest.mark.parametrize("name", ["polynorm", "swiglu"])
def test_a_registered_activation_is_drawn(polycom, tmp_path, name):
    output = tmp_path / "new"
    outcome = polycom("analyze", "activation", name, "--output", output)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == [str(output / f"activation-{name}.png"), str(output / "tb")]
    assert (output / f"activation-{name}.png").read_bytes().startswith(PNG)
    assert images(output / "tb") == {f"activation/{name}": [0]}


def test_options_of_the_activation_change_the_curve(polycom, tmp_path):
    for options in ((), ("--order", 2), ("--order", 2, "--coefficients", "[0.5, 0.25]")):
        outcome = polycom("analyze", "activation", "polyrelu", *options, "--output", tmp_path)
        assert outcome.code == 0, outcome.err
    names = ["polyrelu", "polyrelu-order=2", "polyrelu-order=2-coefficients=0.5,0.25"]
    assert len({(tmp_path / f"activation-{name}.png").read_bytes() for name in names}) == 3
    assert images(tmp_path / "tb") == {f"activation/{name}": [0] for name in names}


def test_a_trained_activation_is_drawn(polycom, tiny_config, tmp_path):
    assert polycom("fit", "--config", tiny_config).code == 0
    run, figures = tmp_path / "runs/tiny/version_0", tmp_path / "figures"
    before = sorted((run / "tb").iterdir())
    for target in (run / "checkpoints/step-00000004.ckpt", tmp_path / "runs/tiny"):
        outcome = polycom("analyze", "activation", target, "--output", figures)
        assert outcome.code == 0, outcome.err
    assert sorted(p.name for p in figures.iterdir()) == [
        "activation-tiny-version_0-step-00000004.png", "activation-tiny-version_0-step-00000008.png", "tb",
    ]  # fmt: skip
    assert (figures / "activation-tiny-version_0-step-00000008.png").read_bytes().startswith(PNG)
    assert images(figures / "tb") == {"activation/tiny-version_0": [4, 8]}
    assert sorted((run / "tb").iterdir()) == before
    for options, message in (
        (("--output", run), "output: "),
        (("--order", 2, "--output", figures), "order: "),
    ):
        refused = polycom("analyze", "activation", run, *options)
        assert refused.code == 2 and message in refused.err and refused.err.strip().count("\n") == 0
    assert sorted((run / "tb").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("polynrom",), "unknown activation 'polynrom'; did you mean polynorm"),
        (("runs/none",), "runs/none does not exist"),
        (("polynorm", "--std", "0"), "std: found 0.0; it must be above 0"),
        (("polynorm", "--order", "7"), "activation.order: found 7"),
        (("relu", "--order", "2"), "activation.order: 'relu' has no such option"),
        (("polynorm", "--output", "/proc/nowhere"), "/proc/nowhere"),
    ],
)
def test_mistakes_are_one_line(polycom, arguments, message):
    outcome = polycom("analyze", "activation", *arguments)
    assert outcome.code == 2
    assert message in outcome.err and outcome.err.strip().count("\n") == 0
