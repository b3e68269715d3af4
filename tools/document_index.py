"""docs/reference/index.md: what the reference has."""


def build() -> str:
    """Return the page."""
    return """# Reference

<!-- Written by tools/document_reference.py; do not edit. -->

Made from the code, and compared with it in `make check`: what is not here does not exist.

| page | made from |
|---|---|
| [HTTP API](http.md) | the OpenAPI document that every server serves |
| [Command line](cli.md) | the commands |
| [Python client](python.md) | the public names of `penstock.client` |
| [Settings](../settings.md) | the classes of settings |
| [Limits](limits.md) | the limits, quotas and the codes of their refusals |
| [Errors](errors.md) | every code that the source can give |
| [Metrics](metrics.md) | what `GET /metrics` renders |
| [Input](../input.md) | the rules for what is submitted; its codes are compared with the source |
| [Outcomes](../outcomes.md) | what becomes of lines; its rows are compared with the source |
| [Emulator](../emulator.md) | what the emulator of Vertex AI does, and can be told to do |
"""
