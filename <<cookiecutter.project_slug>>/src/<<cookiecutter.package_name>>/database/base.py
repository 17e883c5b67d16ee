"""The declarative base class of all models."""

from datetime import datetime

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

# % filter replace("sqlite", cookiecutter.database)
from .sqlite import MOMENT


# % endfilter
class Base(DeclarativeBase):
    """The base class of all models. Datetimes have a time zone, and are loaded in UTC."""

    # Every constraint has a name, so that a migration can drop it.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: MOMENT}  # noqa: RUF012  # as SQLAlchemy requires
