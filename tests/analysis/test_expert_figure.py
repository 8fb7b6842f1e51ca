import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lightning_polycom.analysis.expert_figure import draw_experts


def test_layers_are_rows_and_experts_columns():
    values = torch.tensor([[0.5, 1.0, 1.5], [1.0, 1.0, 1.0]])
    figure = draw_experts(values, "load of each expert", "tokens over the layer's mean", center=1.0)
    ax = figure.axes[0]
    (image,) = ax.images
    assert image.get_array().shape == (2, 3) and (ax.get_xlabel(), ax.get_ylabel()) == ("expert", "layer")
    assert image.norm(1.0) == 0.5  # an even load is white
    FigureCanvasAgg(figure).draw()


def test_many_experts_fit():
    figure = draw_experts(torch.rand(16, 64), "coefficient of power 1", "coefficient")
    assert figure.get_size_inches()[0] <= 12
