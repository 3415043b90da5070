"""What old-vs-old measurements have taught, as operators see it."""

import math

from controller.gate.ledger import Ledger, Noise, differences, learn, old_against_old, suspensions
from controller.gate.metrics import METRICS
from controller.gate.planning.fleet_power import cell_boots, cell_noise
from controller.gate.priors import PRIORS
from controller.views.models import LedgerCellView, LedgerView

# Runs in a boot that the prior of a performance metric is told for.
_USUAL_RUNS = 4


def ledger_view(ledger: Ledger) -> LedgerView:
    """Return every cell of which something is known, by stratum and metric."""
    known = {(boot.stratum, boot.metric) for boot in ledger.boots}
    known |= {(one.stratum, one.metric) for one in ledger.judgements}
    # A metric of another version has no noise that this one could tell.
    known = {cell for cell in known if cell[1] in METRICS or cell[1] in PRIORS}
    why = suspensions(ledger.judgements)
    return LedgerView(
        cells=tuple(_cell(ledger, stratum, metric, why.get((stratum, metric), "")) for stratum, metric in sorted(known))
    )


def _cell(ledger: Ledger, stratum: str, metric: str, suspended: str) -> LedgerCellView:
    boots = cell_boots(ledger, stratum, metric)
    pairs = old_against_old(boots)
    judged = [one for one in ledger.judgements if (one.stratum, one.metric) == (stratum, metric)]
    noise, unit = _noise(ledger, stratum, metric)
    return LedgerCellView(
        stratum=stratum,
        metric=metric,
        boots=len(boots),
        hosts=len(pairs),
        noise=noise.sigma,
        unit=unit,
        noise_hosts=noise.hosts,
        judgements=len(judged),
        false_reverts=sum(one.failed for one in judged),
        suspended=suspended,
    )


def _noise(ledger: Ledger, stratum: str, metric: str) -> tuple[Noise, str]:
    """Return the noise in percent, or in the metric's unit where a claim's differences are taken."""
    if metric in METRICS:
        changes = differences(old_against_old(cell_boots(ledger, stratum, metric)))
        return learn(changes, METRICS[metric].sigma_host), METRICS[metric].unit
    change = cell_noise(ledger, stratum, PRIORS[metric], _USUAL_RUNS).change
    return Noise(sigma=math.expm1(change.sigma) * 100, hosts=change.hosts), "%"
