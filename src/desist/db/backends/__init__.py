"""Storage: connections, transactions and errors of each kind of database."""
