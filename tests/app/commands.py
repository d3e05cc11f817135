"""Commands of `vp` in tests."""

import json

from app.cli.main import main

SHORT = ["--examples", "16", "--batch", "8", "--precision", "float32"]
"""A training of two steps."""


def printed(capsys, command, *arguments):
    assert main([command, *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)
