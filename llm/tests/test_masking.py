"""Keys in text, as they are and as they may be encoded."""
from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest

from llm import masking

KEY = "met/key+with=signs?>~0123456789ÿ"

FORMS = {
    "plain": KEY,
    "quoted": quote(KEY, safe=""),
    "quoted as a form": quote_plus(KEY),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "base64 behind one byte": base64.b64encode(b":" + KEY.encode()).decode(),
    "base64 behind a name": base64.b64encode(b"user:" + KEY.encode()).decode(),
    "base64 for addresses between others": base64.urlsafe_b64encode(b"user::" + KEY.encode() + b"@x").decode(),
}


@pytest.mark.parametrize("known", [masking.mask, masking.mask_known])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_masked_however_it_is_encoded(known, form):
    masking.remember(KEY)

    shown = known(f"at {FORMS[form]} it failed")

    assert "***" in shown
    pieces = {FORMS[form][at : at + 10] for at in range(len(FORMS[form]) - 9)}
    assert [piece for piece in pieces if piece in shown] == []


def test_another_text_in_base64_stays():
    masking.remember(KEY)
    other = base64.b64encode(b"another text of about that length").decode()

    assert masking.mask_known(other) == other
