"""Asks for every answer of streams.json with the clients for Python, and prints the
names of the tools that each saw (run.mjs says how)."""

import json
import os
import pathlib
import re
import sys
import threading
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

# Nothing of the caller's environment may change what the clients do.
for variable in list(os.environ):
    if re.search(r"^OPENAI_|_proxy$|^LANGSMITH_|^LANGCHAIN_", variable, re.IGNORECASE):
        del os.environ[variable]

from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel

DIRECT = os.environ["DIRECT"]
GOVERNED = os.environ["GOVERNED"]
ONLY = os.environ.get("SEKUIRE_ONLY")
CASES = json.loads((pathlib.Path(__file__).resolve().parent / "streams.json").read_text())
TIMEOUT_S = 10
AT_ONCE = 8

# ------------------------------------------------------------- what was seen


def fields(value):
    """What an object of a client holds, also what its type does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseModel):
        told = {**vars(value), **(value.model_extra or {})}
        if isinstance(value, BaseMessage):
            told["content_blocks"] = value.content_blocks
        return told
    return None


# What LangChain makes of a part of a call: only the first has a name.
PARTS = ("tool_call", "invalid_tool_call", "tool_call_chunk", "function_call")


def names(value, seen):
    """Every name of a tool in what a client handed to its application."""
    left = [(value, "top")]
    while left:
        value, at = left.pop()
        if isinstance(value, (list, tuple)):
            left.extend((entry, at) for entry in value)
            continue
        held = fields(value)
        if held is None:
            continue

        def say(name):
            if name is None or name == "":
                return
            text = name if isinstance(name, str) else json.dumps(name, default=repr)
            space = held.get("namespace")
            seen.add(f"{space}.{text}" if isinstance(space, str) and space else text)

        type_ = held.get("type")
        type_ = type_ if isinstance(type_, str) else ""
        name = held.get("name")
        if at in ("function", "custom", "function_call"):
            say(name)
        elif isinstance(value, Mapping) and type_ in PARTS:
            say(name)
        elif type_.endswith("_call"):
            say(type_ if name is None else name)
        elif "function_call_arguments" in type_:
            say(name)
        left.extend((entry, str(key)) for key, entry in held.items())


# --------------------------------------------------------------- ways to ask
# Each yields what the application is given.

MESSAGES = [{"role": "user", "content": "x"}]
PARAMETERS = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
FUNCTION = {"name": "safe", "description": "x", "parameters": PARAMETERS, "strict": True}
CHAT_TOOLS = [{"type": "function", "function": FUNCTION}]
RESPONSES_TOOLS = [{"type": "function", **FUNCTION}]


def openai(origin):
    return OpenAI(api_key="sk-x", base_url=f"{origin}/v1", max_retries=0, timeout=TIMEOUT_S)


def chat_raw(client, model):
    yield from client.chat.completions.create(model=model, messages=MESSAGES, tools=CHAT_TOOLS, stream=True)


def helper(manager, *snapshots):
    """The events, then the snapshots: what the helper has put together also counts
    when it ends in an error."""
    with manager as stream:
        try:
            yield from stream
        finally:
            for snapshot in snapshots:
                try:
                    held = snapshot(stream)
                except Exception:
                    continue
                yield held


def chat_helper(client, model):
    yield from helper(
        client.chat.completions.stream(model=model, messages=MESSAGES, tools=CHAT_TOOLS),
        lambda stream: stream.current_completion_snapshot,
        lambda stream: stream.get_final_completion(),
    )


def chat_create(client, model):
    yield client.chat.completions.create(model=model, messages=MESSAGES, tools=CHAT_TOOLS)


def responses_raw(client, model):
    yield from client.responses.create(model=model, input="x", tools=RESPONSES_TOOLS, stream=True)


def responses_helper(client, model):
    yield from helper(
        client.responses.stream(model=model, input="x", tools=RESPONSES_TOOLS),
        lambda stream: stream.get_final_response(),
    )


def responses_create(client, model):
    yield client.responses.create(model=model, input="x", tools=RESPONSES_TOOLS)


def langchain(**how):
    def make(origin):
        return ChatOpenAI(
            model="m", api_key="sk-x", base_url=f"{origin}/v1", max_retries=0, timeout=TIMEOUT_S, **how
        ).bind_tools(CHAT_TOOLS)

    return make


def langchain_stream(client, model):
    whole = None
    for chunk in client.stream("x", model=model):
        yield chunk
        whole = chunk if whole is None else whole + chunk
        yield whole


def langchain_invoke(client, model):
    yield client.invoke("x", model=model)


LANGCHAIN_CHAT = langchain(use_responses_api=False)
LANGCHAIN_RESPONSES = langchain(use_responses_api=True)

# Client, API, whether it streams, how the client is made, how it is asked.
WAYS = [
    ("openai raw stream", "chat", True, openai, chat_raw),
    ("openai chat.completions.stream", "chat", True, openai, chat_helper),
    ("openai create", "chat", False, openai, chat_create),
    ("openai responses raw stream", "responses", True, openai, responses_raw),
    ("openai responses.stream", "responses", True, openai, responses_helper),
    ("openai responses.create", "responses", False, openai, responses_create),
    ("langchain-openai stream", "chat", True, LANGCHAIN_CHAT, langchain_stream),
    ("langchain-openai invoke", "chat", False, LANGCHAIN_CHAT, langchain_invoke),
    ("langchain-openai responses stream", "responses", True, LANGCHAIN_RESPONSES, langchain_stream),
    ("langchain-openai responses invoke", "responses", False, LANGCHAIN_RESPONSES, langchain_invoke),
]

# -------------------------------------------------------------------- asking

PRINTING = threading.Lock()

# The clients complain of values that their types do not know.
warnings.simplefilter("ignore")


def ask(name, read, client, case, way, cut):
    seen, error = set(), None
    try:
        for entry in read(client, f"{case}-{cut}"):
            if getattr(entry, "type", None) == "error":
                error = error or str(getattr(entry, "message", None) or "error")
            names(entry, seen)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    told = {"client": name, "case": case, "way": way, "cut": cut, "seen": sorted(seen)}
    if error:
        told["error"] = error[:200]
    with PRINTING:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def main():
    jobs = []
    for name, api, stream, make, read in WAYS:
        direct, governed = make(DIRECT), make(GOVERNED)
        for number, case in enumerate(CASES):
            if case["api"] != api or case["stream"] is not stream:
                continue
            if ONLY and ONLY not in case["name"]:
                continue
            jobs.append((name, read, direct, number, "direct", 0))
            for cut in (0, 1, 7) if stream and case["hostile"] else (0,):
                jobs.append((name, read, governed, number, "governed", cut))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for job in [pool.submit(ask, *job) for job in jobs]:
            job.result()


main()
