"""What the rest of the program asks the database: one module a subject, functions of a `Tx`."""
