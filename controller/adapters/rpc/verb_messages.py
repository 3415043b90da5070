"""The operator's verbs on the wire."""

from controller.domain.deciding.requests import Verb
from protos.kernroll.v1 import operator_pb2

VERBS: dict[int, Verb] = {
    operator_pb2.ROLLOUT_VERB_PAUSE: Verb.PAUSE,
    operator_pb2.ROLLOUT_VERB_RESUME: Verb.RESUME,
    operator_pb2.ROLLOUT_VERB_PROMOTE: Verb.PROMOTE,
    operator_pb2.ROLLOUT_VERB_APPROVE: Verb.APPROVE,
    operator_pb2.ROLLOUT_VERB_RETRY: Verb.RETRY,
    operator_pb2.ROLLOUT_VERB_SKIP: Verb.SKIP,
    operator_pb2.ROLLOUT_VERB_ABORT: Verb.ABORT,
    operator_pb2.ROLLOUT_VERB_REVERT: Verb.REVERT,
}
NUMBERS = {verb: operator_pb2.RolloutVerb.ValueType(number) for number, verb in VERBS.items()}
