"""The door itself: what the first calls of a process find."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings

# Each of a fresh process's threads makes its first call, while another one loads LiteLLM ahead.
FIRST_CALLS = """
import threading, django
django.setup()
from llm import gateway
from llm.errors import ConnectionFailed
from llm.messages import Message, ModelCall, ModelSettings
call = ModelCall(ModelSettings("openai/gpt-4o-mini", api_base="http://127.0.0.1:9/v1"), (Message("user", "hi"),))
met = []

def ask():
    try:
        gateway.complete(call, on_retry=lambda *_: None, should_stop=lambda: False)
    except Exception as error:
        met.append(type(error).__name__)

threads = [threading.Thread(target=act) for act in (gateway.warm_up, *[ask] * 12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(set(met)), len(met))
"""


@pytest.mark.slow
def test_threads_that_make_the_first_calls_at_once_do_not_meet_half_a_litellm():
    given = {"DJANGO_SETTINGS_MODULE": "opspawn_site.settings", "OPENAI_API_KEY": "sk-x", "LLM_MAX_ATTEMPTS": "1",
             "LLM_CIRCUIT_FAILURES": "0"}  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", FIRST_CALLS], env=os.environ | given, cwd=settings.BASE_DIR, capture_output=True,
        text=True, timeout=100, check=True,
    )  # fmt: skip

    assert told.stdout.strip() == "['ConnectionFailed'] 12"
