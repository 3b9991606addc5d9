"""Data in any shape that users keep it -> one stream of batches."""
