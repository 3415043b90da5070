"""The least that makes a rollout file, and what is said of a wrong one."""

import pytest

from controller.domain.errors import InvalidInput
from controller.domain.spec.parse import parse_spec

HEAD = """\
apiVersion: kernroll/v1
kind: Rollout
metadata:
  name: test
"""
BODY = """\
spec:
  kernels:
    x86_64: {debian: {version: "7.1.13"}}
  workloads:
    swap_mount: {device: {brd_size: 1TiB}}
"""


def refusal(text: str) -> list[str]:
    """Return the lines that refuse the text."""
    with pytest.raises(InvalidInput) as caught:
        parse_spec(text, "rollout.yaml")
    return str(caught.value).splitlines()
