"""Go templates recorded from consul-template: its bytes, or an error at its line."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ctmpl_fixture import CASES, render

from pyconsul_template.render import TemplateError

NEWER = {
    # What current releases do where the recorded one gives an error.
    "{{range loop 3}}{{.}}{{end}} {{range loop 5 8}}{{.}}{{end}}"
    ' {{range loop "2"}}{{.}}{{end}}': "012 567 01",
    '{{range service "web"}}{{if .Tags.Contains "v2"}}{{.ID}} {{end}}{{end}}': "web-2 ",
    '{{key "app/yaml" | parseYAML | toJSON}}': '{"k":"v","l":[1,2]}',
    "{{range 5}}{{.}}{{end}}": "01234",
}


@pytest.mark.parametrize(
    "case", CASES["cases"], ids=[c["group"] for c in CASES["cases"]]
)
def test_recorded_case(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT_CASE", "case-value")
    monkeypatch.delenv("NOPE_X", raising=False)
    if "note" in case:
        assert render(case["template"]) == NEWER[case["template"]]
        return
    if case["exit"] == 0:
        assert render(case["template"]) == case["output"]
        return
    with pytest.raises(TemplateError) as caught:
        render(case["template"])
    recorded = re.search(r"template: :(\d+)", case["error"])
    assert recorded is not None
    assert caught.value.line == int(recorded[1])
    tail = case["error"].rpartition(">: ")[2]
    if case["group"] == "errors" and "execute" in case["error"]:
        words = re.findall(r"\w{5,}", tail)
        assert any(word in str(caught.value) for word in words)
