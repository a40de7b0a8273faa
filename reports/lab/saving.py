"""What JupyterLab does before it saves a notebook: the file keeps the code and the prose, and no output."""

from __future__ import annotations

from typing import Any

# What it would write of the kernel that happened to run.
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def without_outputs(model: dict[str, Any], **_: Any) -> None:
    """Take the outputs, the counts and the kernel's version out of what is about to be saved; not out of the browser.

    Args:
        model: as of Jupyter's contents API; a notebook is changed in place, anything else is left alone.
    """
    if model.get("type") != "notebook" or not isinstance(model.get("content"), dict):
        return
    content = model["content"]
    content["metadata"] = {**content.get("metadata", {}), **_METADATA}
    for cell in content.get("cells", ()):
        # When it was run, and what was folded.
        for name in ("execution", "collapsed", "jupyter", "trusted"):
            cell.get("metadata", {}).pop(name, None)
        if cell.get("cell_type") == "code":
            cell["outputs"], cell["execution_count"] = [], None
