"""Cells that are judged host by host: did it live, is a claimed saving there; and the judgement of a wave of them."""
