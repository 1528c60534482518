"""The ops process (`pluggy-sync ops`): an HTTP API for your backend, and pages for operators."""
