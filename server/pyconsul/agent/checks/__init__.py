"""Check runners: a file a kind; ``runner.py`` says when, ``status.py`` what counts."""
