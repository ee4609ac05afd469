"""Providers by name: which exist, their default models, keys and addresses; known without importing LiteLLM."""
from __future__ import annotations

from django.conf import settings

from llm.errors import MissingKey, UnknownModel

MODEL_CHARS = 200  # of provider/name: what a step's row holds
ALIASES = {"google": "gemini"}

DEFAULT_MODELS = {
    "openai": "gpt-4.1-mini",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-2.5-pro",
    "openrouter": "openai/gpt-4.1-mini",
    "scripted": "echo",
}
"""What `llm_provider` alone means; docs/reference/models.md shows the same table."""

KEY_VARIABLES = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "openrouter": "OPENROUTER_API_KEY",
}

# Their models are named vendor/model, so that a vendor's name after them is not a provider of its own.
_HUBS = """
    aiml cometapi deepinfra edenai helicone huggingface litellm_proxy nano-gpt openrouter together_ai vercel_ai_gateway
"""
HUBS = frozenset(_HUBS.split())

# LiteLLM's own list, but for `chatgpt` and `github_copilot`, which ask a person to log in on the console.
_KNOWN = """
    a2a a2a_agent ai21 ai21_chat aiml aiohttp_openai amazon_nova anthropic anthropic_text apertis assemblyai
    auto_router aws_polly aws_textract azure azure_ai azure_speech azure_text baseten bedrock bedrock_mantle
    black_forest_labs bytez cerebras charity_engine chutes clarifai cloudflare codestral cognition cohere
    cohere_chat cometapi compactifai cortecs cursor custom custom_openai darkbloom dashscope databricks
    datarobot deepgram deepinfra deepseek docker_model_runner dotprompt edenai elevenlabs empower fal_ai
    featherless_ai fireworks_ai friendliai galadriel gdc gemini gigachat github gradient_ai groq helicone heroku
    hosted_vllm huggingface humanloop hyperbolic inception infinity jina_ai lambda_ai langflow langfuse
    langgraph lemonade libertai litellm_agent litellm_proxy llamafile lm_studio manus maritalk meta meta_llama
    milvus minimax mistral modelscope mongodb moonshot morph nadir nano-gpt nebius neosantara nlp_cloud novita
    nscale nvidia_nim nvidia_riva oci ollama ollama_chat oobabooga openai openai_like openrouter ovhcloud
    parasail perplexity petals pg_vector pinstripes poe predibase prism publicai qwen_ai_platform qwencloud
    ragflow recraft reducto reka replicate runwayml s3_vectors sagemaker sagemaker_chat sagemaker_nova sail
    sambanova sap scaleway scx-ai snowflake soniox stability strands_decider synthetic tencent tensormesh
    text-completion-codestral text-completion-inception text-completion-openai together_ai topaz transcribe
    triton typesafe v0 valkey vercel_ai_gateway vertex_ai vertex_ai_beta vllm volcengine voyage wandb watsonx
    watsonx_text xai xiaomi_mimo xinference zai
    scripted
"""
KNOWN = frozenset(_KNOWN.split())


def canonical(provider: str) -> str:
    """LiteLLM's name of a provider: lower case, `google` is `gemini`."""
    name = provider.strip().lower()
    return ALIASES.get(name, name)


def canonical_model(name: str) -> str:
    """`provider/name`, or a provider alone, with the provider as LiteLLM names it."""
    provider, slash, model = name.strip().partition("/")
    return f"{canonical(provider)}{slash}{model}"


def known(provider: str) -> bool:
    return canonical(provider) in KNOWN


def split(model: str) -> tuple[str, str]:
    """The provider and the name of `provider/name`; without a slash the provider is ''."""
    provider, slash, name = model.strip().partition("/")
    return (canonical(provider), name) if slash else ("", provider)


def resolve(model: str, llm_provider: str = "", llm_model: str = "") -> str:
    """The model that a task calls: its agent's `model`, with the task's overrides.

    `llm_model` with a provider prefix stands alone, else it takes `llm_provider`, else the agent's provider;
    `llm_provider` alone takes that provider's default model. `openrouter` with `openai/gpt-4o` is
    `openrouter/openai/gpt-4o`: the vendor is part of a hub's model name. Nothing is refused here: a provider
    that does not exist fails when it is called.
    """
    provider = canonical(llm_provider)
    if llm_model:
        prefix, name = split(llm_model)
        if prefix in KNOWN and not (provider in HUBS and prefix != provider):
            return f"{prefix}/{name}"
        provider = provider or split(model)[0]
        return f"{provider}/{llm_model.strip()}" if provider else llm_model.strip()
    if provider:
        return f"{provider}/{DEFAULT_MODELS.get(provider, '')}"
    prefix, name = split(model)
    return f"{prefix}/{name}" if prefix else name


def check(model: str) -> tuple[str, str]:
    """The provider and name of a model that can be called. Raises UnknownModel, naming what is wrong."""
    provider, name = split(model)
    if not provider:
        raise UnknownModel(f"model {model!r} names no provider: write provider/model, for example openai/{model}")
    if provider not in KNOWN:
        raise UnknownModel(f"provider {provider!r} does not exist (model {model!r}): see docs/reference/models.md")
    if not name:
        raise UnknownModel(f"provider {provider!r} has no default model: name one in llm_model")
    if len(model) > MODEL_CHARS:
        raise UnknownModel(f"model {model[:40]!r}… has {len(model)} characters: use at most {MODEL_CHARS}")
    if "://" in name:  # some of LiteLLM's providers would call that address, and send it the key
        raise UnknownModel(f"model {model!r} holds an address: set it as the agent's api_base")
    return provider, name


def key_of(provider: str) -> str:
    """The provider's key from the settings. Raises MissingKey, naming the variable."""
    key: str = settings.PROVIDER_KEYS.get(provider, "")
    if not key:
        raise MissingKey(missing_key(provider, KEY_VARIABLES[provider]))
    return key


def missing_key(provider: str, variable: str, whose: str = "") -> str:
    return (
        f"{variable} {whose}is not set: {provider} is not called without a key. Set it in the environment of the"
        " workers and restart them; for a server that wants no key, set it to any text or use hosted_vllm/… or ollama/…"
    )


def base_of(provider: str) -> str:
    """The provider's address from the settings, or '' for the provider's own."""
    base: str = settings.PROVIDER_API_BASES.get(provider, "")
    return base
