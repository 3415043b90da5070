"""The metrics that stress-ng writes as YAML: flat enough to be read without a YAML library."""

from collections.abc import Mapping


def parse_metrics(text: str) -> Mapping[str, Mapping[str, float]]:
    """Return every stressor's numbers by stressor and name. Raises ValueError when there is no metrics section."""
    found: dict[str, dict[str, float]] = {}
    stressor = ""
    inside = False
    for line in text.splitlines():
        if line and not line.startswith((" ", "-")):
            inside = line.strip() == "metrics:"
        if not inside:
            continue
        name, separator, value = line.strip().removeprefix("- ").partition(":")
        value = value.strip().strip("'\"")
        if name == "stressor":
            stressor = value
            found[stressor] = {}
        elif separator and stressor:
            try:
                found[stressor][name] = float(value)
            except ValueError:
                continue
    if not found:
        raise ValueError("stress-ng wrote no metrics; it ended before its stressors did")
    return found
