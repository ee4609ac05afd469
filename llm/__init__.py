"""The one door to every model."""
import os

# LiteLLM reads these while it is imported, whoever does it first: the bundled price map and header list instead of
# those from the network, no `.env` of its own, and for what is sent through it the cheaper of its HTTP handlers.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_MODE": "PRODUCTION",
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "true",
}
