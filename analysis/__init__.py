"""Questions asked of a model: each module computes a tidy table and draws it as a plotly figure."""
