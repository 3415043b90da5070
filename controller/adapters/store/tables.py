"""The tables. The event log is append-only; everything else can be thought of as bookkeeping beside it."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, MetaData, String, Table, Text, UniqueConstraint

SCHEMA_VERSION = 4

metadata = MetaData()

# SQLite counts rows up by itself only for a column of type INTEGER.
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

events = Table(
    "events",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("stream", String(255), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("payload", Text, nullable=False),
    # Over this event and the one before; see chain.py.
    Column("digest", String(64), nullable=False, server_default=""),
    # Compare-and-swap: two writers cannot both append the same revision.
    UniqueConstraint("stream", "revision"),
)

# One row: the newest event, so that an end that was cut off is noticed.
log_head = Table(
    "log_head",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
)

effects = Table(
    "effects",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("command_id", String(255), nullable=False, unique=True),
    Column("stream", String(255), nullable=False, index=True),
    Column("kind", String(64), nullable=False),
    Column("payload", Text, nullable=False),
)

reports = Table("reports", metadata, Column("report_id", String(255), primary_key=True))

hosts = Table("hosts", metadata, Column("name", String(255), primary_key=True), Column("payload", Text, nullable=False))

# What measurements taught about their noise: one row a host, boot and metric.
ledger_boots = Table(
    "ledger_boots",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("stratum", String(255), nullable=False, index=True),
    Column("metric", String(255), nullable=False),
    Column("host", String(255), nullable=False),
    Column("rollout", String(64), nullable=False),
    Column("kernel", String(64), nullable=False),
    Column("order", String(64), nullable=False),
    Column("boot_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("value", Float, nullable=False),
    Column("runs", Integer, nullable=False),
)

# How old-vs-old comparisons were judged: one row a cell and A/A rollout.
ledger_judgements = Table(
    "ledger_judgements",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("stratum", String(255), nullable=False, index=True),
    Column("metric", String(255), nullable=False),
    Column("rollout", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("alpha", Float, nullable=False),
    Column("failed", Boolean, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("secret_digest", String(64), primary_key=True),
    Column("uses", Integer, nullable=False),
    Column("expires_at", Float, nullable=False),
)

enrolled = Table(
    "enrolled",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("key_digest", String(64), nullable=False),
    Column("serial", String(64), nullable=False),
    Column("not_after", Float, nullable=False),
)

# "schema_version" and "epoch".
meta = Table(
    "meta", metadata, Column("name", String(64), primary_key=True), Column("value", BigInteger, nullable=False)
)
