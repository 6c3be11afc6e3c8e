"""docs/reliability.md says what benchmarks/results/reliability.json holds, and all of it."""

import json

from tools.gen_reliability import PAGE, RESULTS, page


def test_the_page_has_the_table_of_the_results() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text, json.loads(RESULTS.read_bytes()))
