"""Filter expressions: a pure language (reference ``http-api.md`` section 3)."""
