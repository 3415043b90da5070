"""Judgements as pictures and tables: forests, the ledger, replays."""
