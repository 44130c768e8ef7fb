"""Nothing here runs foreign bytes as code, and nothing depends on hidden randomness."""

from __future__ import annotations

import ast

import pytest

from tests.source_tree import Finding, imports, sources

FORBIDDEN_MODULES = frozenset(
    {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
)
"""Reading their formats can run code; safetensors and JSON are what we read."""

FORBIDDEN_NAMES = frozenset(
    {
        "eval",
        "exec",
        "os.popen",
        "os.system",
        "pty.spawn",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
        "torch.load",
        "torch.save",
        "yaml.full_load",
        "yaml.load",
        "yaml.unsafe_load",
    }
)

RANDOM_MODULES = ("random", "numpy.random")

MAY_BE_RANDOM = ("slstream/bench/", "slstream/testing/", "tests/")
"""Elsewhere randomness is derived from (seed, purpose): see slstream.seeds."""

MAY_ASSERT = ("slstream/testing/", "tests/")
"""Elsewhere ``python -O`` must not remove a check."""


def findings(path: str, tree: ast.Module) -> list[Finding]:
    """Every forbidden thing in a file."""
    origins = _origins(tree)
    rules = [
        (line, f"import of {name}")
        for line, name in imports(tree)
        if name.partition(".")[0] in FORBIDDEN_MODULES
    ]
    if not path.startswith(MAY_BE_RANDOM):
        rules += [(line, f"import of {name}") for line, name in imports(tree) if _is_random(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            name = _dotted(node, origins)
            if name in FORBIDDEN_NAMES or (_is_random(name) and not path.startswith(MAY_BE_RANDOM)):
                rules.append((node.lineno, f"use of {name}"))
        elif isinstance(node, ast.Call):
            rules += [(node.lineno, rule) for rule in _call_rules(node, origins)]
        elif isinstance(node, ast.Assert) and not path.startswith(MAY_ASSERT):
            rules.append((node.lineno, "assert as a check"))
    return [Finding(path=path, line=line, rule=rule) for line, rule in rules]


def _call_rules(call: ast.Call, origins: dict[str, str]) -> list[str]:
    given = {
        keyword.arg: keyword.value.value
        for keyword in call.keywords
        if isinstance(keyword.value, ast.Constant)
    }
    keywords = {keyword.arg for keyword in call.keywords}
    name = _dotted(call.func, origins)
    rules = []
    if "shell" in keywords and given.get("shell") is not False:
        rules.append("shell=True")
    if name == "numpy.load" and given.get("allow_pickle") is not False:
        rules.append("numpy.load without allow_pickle=False")
    if name == "ruamel.yaml.YAML" and given.get("typ") == "unsafe":
        rules.append("YAML(typ='unsafe')")
    return rules


def _origins(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for: ``np`` -> ``numpy``, ``load`` -> ``torch.load``."""
    origins = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    origins[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return origins


def _dotted(node: ast.expr, origins: dict[str, str]) -> str:
    """``np.random.rand`` -> ``numpy.random.rand``; empty for anything but names and dots."""
    if isinstance(node, ast.Name):
        return origins.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value, origins)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _is_random(name: str) -> bool:
    return name in RANDOM_MODULES or name.startswith(tuple(f"{each}." for each in RANDOM_MODULES))


def test_no_file_uses_what_is_forbidden() -> None:
    found = [each for path, tree in sources() for each in findings(path, tree)]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle",
        "import dill as d",
        "from joblib import load",
        "import marshal",
        "def f():\n    import shelve",
        "import torch\ntorch.load(path)",
        "import torch as t\nread = t.load",
        "from torch import load as read\nread(path)",
        "import torch\ntorch.save(model, path)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "from numpy import load\nload(path, allow_pickle=flag)",
        "eval(text)",
        "list(map(exec, texts))",
        "import yaml\nyaml.load(text)",
        "from ruamel.yaml import YAML\nYAML(typ='unsafe')",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import subprocess\nsubprocess.run(command, shell=flag)",
        "import os\nos.system(command)",
        "assert n > 0",
        "import random",
        "import numpy as np\nnp.random.rand(3)",
        "from numpy.random import default_rng",
        "from numpy import random",
    ],
)
def test_catches_what_is_forbidden(code: str) -> None:
    assert findings("slstream/party/x.py", ast.parse(code))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("slstream/party/x.py", "model.eval()"),
        ("slstream/party/x.py", "import json\njson.load(file)"),
        ("slstream/party/x.py", "import numpy as np\nnp.load(path, allow_pickle=False)"),
        ("slstream/party/x.py", "import subprocess\nsubprocess.run(command, shell=False)"),
        ("slstream/party/x.py", "from ruamel.yaml import YAML\nYAML(typ='safe')"),
        ("slstream/bench/x.py", "import numpy as np\nnp.random.default_rng(1)"),
        ("slstream/testing/x.py", "assert codec.exact"),
        ("tests/x.py", "import random"),
    ],
)
def test_allows_what_only_looks_like_it(path: str, code: str) -> None:
    assert not findings(path, ast.parse(code))
