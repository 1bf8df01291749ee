"""The ledger's tables, the same on SQLite and PostgreSQL. A change of these raises VERSION
and says in MIGRATIONS how an older ledger gets there."""

from __future__ import annotations

import sqlalchemy as sa

VERSION = 2
# version → what brings a ledger of the version before to it; tables that are new are made by themselves.
MIGRATIONS = {2: ("ALTER TABLE intent ADD COLUMN place TEXT NOT NULL DEFAULT ''",)}
metadata = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up INTEGER keys only

version = sa.Table("ledger_version", metadata, sa.Column("number", sa.Integer, primary_key=True))

# One row a site. ``epoch`` grows with each new holder; a write of an older epoch is refused.
lease = sa.Table(
    "lease",
    metadata,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("expires", sa.Double, nullable=False),
)

intent = sa.Table(
    "intent",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),  # idempotency key at the provider: the machine's name
    sa.Column("group_name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("keep_data", sa.Boolean, nullable=False),
    sa.Column("opened", sa.Double, nullable=False),
    sa.Column("closed", sa.Double),
    sa.Column("error", sa.Text, nullable=False, default=""),
    sa.Column("place", sa.Text, nullable=False, default="", server_default=""),  # zone or host it was made in
    sa.Index("intent_open", "site", "state"),
    sa.Index("intent_object", "site", "object"),
)

decision = sa.Table(
    "decision",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("site", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("group_name", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("decision_object", "site", "object"),
)

# The machines we know to be ours, and what was last seen of each.
machine = sa.Table(
    "machine",
    metadata,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("group_name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

observation = sa.Table(
    "observation",
    metadata,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("object", sa.Text, primary_key=True),
    sa.Column("facts", sa.Text, nullable=False),  # JSON
    sa.Column("at", sa.Double, nullable=False),
)

scale = sa.Table(
    "scale",
    metadata,
    sa.Column("site", sa.Text, primary_key=True),
    sa.Column("group_name", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("base", sa.Integer, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

OF_SITE = (intent, decision, machine, observation, scale)
