"""The record's files: archives, series, labels, and the store they are packed into."""
