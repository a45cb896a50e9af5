"""Where this installation came from, and the command that adds something to it from there."""

from __future__ import annotations

import json
import os
import shlex

PACKAGE = "mobilenetv2"


def command_for(extra: str) -> str:
    """The pip command that adds `extra` ("train") to this installation, from the clone, wheel or index that it is of.

    An index's name is given only to those who installed from an index: to all others it may be a stranger's.
    """
    from importlib import metadata  # 0.1 s, for an error that is rare
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = metadata.distribution(PACKAGE).read_text("direct_url.json")  # PEP 610; none came from an index
        if recorded is None:
            return f"pip install '{PACKAGE}[{extra}]'"
        origin = json.loads(recorded)
        address, repository, folder = origin["url"], origin.get("vcs_info"), origin.get("dir_info", {})
        if repository is not None:
            wanted = f"{PACKAGE}[{extra}] @ {repository['vcs']}+{address}"
            return f"pip install {shlex.quote(wanted)}"
        path = url2pathname(urlsplit(address).path)
        if os.path.exists(path):
            editable = "--editable " if folder.get("editable") else ""
            return f"pip install {editable}{shlex.quote(f'{path}[{extra}]')}"
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        pass  # run from its sources, or written by something that is not pip
    return f"pip install '.[{extra}]' in a clone of {PACKAGE}"
