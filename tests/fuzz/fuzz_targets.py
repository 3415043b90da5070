"""Every target by its name."""

from collections.abc import Mapping

import targets_agent
import targets_host
import targets_machine
import targets_operator
import targets_session
from promised import Target

TARGETS: Mapping[str, Target] = {
    target.name: target
    for module in (targets_operator, targets_session, targets_machine, targets_agent, targets_host)
    for target in module.TARGETS
}
