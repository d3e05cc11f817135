"""Changes along the slider, applied."""

import plotly.graph_objects as go

from analysis.live import STEPS, LiveFigure, Restyle, Reveal


def test_steps_are_whole_per_cents():
    assert len(STEPS) == 101 and all(STEPS[i] == i / 100 for i in range(101))


def test_changes_are_applied_to_their_trace_alone():
    figure = go.Figure([go.Scatter(y=[1, 2, 3]), go.Scatter(y=[5, 6, 7]), go.Scatter(x=[0], y=[0])])
    frames = [[i] for i in range(101)]
    live = LiveFigure(figure, (Reveal(1, [5, 6, 7], [0, 10, 100]), Restyle(2, "x", frames)))
    expected = {0: [5, None, None], 9: [5, None, None], 10: [5, 6, None], 99: [5, 6, None], 100: [5, 6, 7]}
    for position, y in expected.items():
        at = live.at(position)
        assert list(at.data[1].y) == y and list(at.data[2].x) == [position] and list(at.data[0].y) == [1, 2, 3]
    assert list(figure.data[1].y) == [5, 6, 7]  # the figure itself has not moved
    live.update(figure, 10)
    assert list(figure.data[1].y) == [5, 6, None]
    assert live.changes_as_json() == [
        {"trace": 1, "y": [5, 6, 7], "gone_at": [0, 10, 100]},
        {"trace": 2, "attribute": "x", "frames": frames},
    ]
