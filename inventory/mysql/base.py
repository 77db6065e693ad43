"""Django's MySQL backend, with one round trip less in each transaction."""

from django.db.backends.mysql import base
from django.db.backends.utils import debug_transaction


class DatabaseWrapper(base.DatabaseWrapper):
    """
    Begins a transaction with a statement, as Django does on SQLite.

    Otherwise Django switches autocommit off before each transaction and on again after it.
    """

    def _start_transaction_under_autocommit(self) -> None:
        with debug_transaction(self, "BEGIN"), self.wrap_database_errors:
            self.connection.query("START TRANSACTION")
