"""The SDKs for Python in the matrix: does the jobs of a file, and prints what the
application was given (matrix.mjs says how)."""

import asyncio
import importlib.metadata
import json
import logging
import pathlib
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import openai
from agents import (
    Agent,
    FunctionTool,
    ModelSettings,
    OpenAIProvider,
    RunConfig,
    Runner,
    set_tracing_disabled,
)
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

TASK = json.loads(pathlib.Path(sys.argv[1]).read_text())
IMAGE = "data:image/png;base64," + pathlib.Path(TASK["image"]).read_text()
API_KEY = "sk-conformance"
PROMPT = "Hello."
AT_ONCE = 4
EVENTS_BEFORE_CANCEL = 5


class City(BaseModel):
    city: str
    inhabitants: int


def schema(**properties):
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


PARAMETERS = {"calculator": schema(a="number", b="number"), "file_delete": schema(path="string")}


def declaration(name, api="chat"):
    function = {"name": name, "description": name, "parameters": PARAMETERS[name], "strict": True}
    return {"type": "function", "function": function} if api == "chat" else {"type": "function", **function}


def user_message(job):
    if job["kind"] != "vision":
        content = PROMPT
    elif job["api"] == "chat":
        content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": IMAGE}}]
    else:
        image = {"type": "input_image", "image_url": IMAGE, "detail": "auto"}
        content = [{"type": "input_text", "text": PROMPT}, image]
    return {"role": "user", "content": content}


def options_of(job):
    """Of a client; its own default of retries, unless the job says otherwise."""
    return {"api_key": API_KEY, "base_url": job["base"], **({} if job["retries"] else {"max_retries": 0})}


# ------------------------------------------------------------------- openai


def run_openai(job, told):
    with openai.OpenAI(**options_of(job)) as client:
        ask_openai(client, job, told)


def ask_openai(client, job, told):
    kind, chat = job["kind"], job["api"] == "chat"
    if kind == "embeddings":
        told["dimensions"] = len(client.embeddings.create(model=job["model"], input=PROMPT).data[0].embedding)
        return
    request = {"model": job["model"], "messages" if chat else "input": [user_message(job)]}
    if job["declare"]:
        request["tools"] = [declaration(name, job["api"]) for name in job["declare"]]
    surface = client.chat.completions if chat else client.responses
    if kind == "structured":
        request["response_format" if chat else "text_format"] = City
        if not job["stream"]:
            answer = surface.parse(**request)
        else:
            with surface.stream(**request) as events:
                answer = events.get_final_completion() if chat else events.get_final_response()
        told["object"] = (answer.choices[0].message.parsed if chat else answer.output_parsed).model_dump()
        return
    if not job["stream"]:
        answer = surface.create(**request)
        if chat:
            message = answer.choices[0].message
            told["text"] = message.content or ""
            calls = [call.function for call in message.tool_calls or []]
        else:
            told["text"] = answer.output_text
            calls = [item for item in answer.output if item.type == "function_call"]
        told["calls"] = [[call.name, json.loads(call.arguments)] for call in calls]
        return
    told.update(text="", calls=[])
    calls = {}
    stream = surface.create(**request, stream=True)
    for number, event in enumerate(stream, 1):
        if kind == "cancel" and number == EVENTS_BEFORE_CANCEL:
            told["cancelled"] = True
            stream.close()
            return
        if chat:
            if not event.choices:
                continue
            delta = event.choices[0].delta
            told["text"] += delta.content or ""
            for call in delta.tool_calls or []:
                held = calls.setdefault(call.index, [call.function.name, ""])
                held[1] += call.function.arguments or ""
        elif event.type == "response.output_text.delta":
            told["text"] += event.delta
        elif event.type == "response.output_item.done" and event.item.type == "function_call":
            calls[event.output_index] = [event.item.name, event.item.arguments]
    told["calls"] = [[name, json.loads(arguments)] for name, arguments in calls.values()]


# ------------------------------------------------------------ openai-agents


# One for all: the SDK's providers share an HTTP client, which belongs to the loop that used it first.
LOOP = asyncio.new_event_loop()


def run_agents(job, told):
    asyncio.run_coroutine_threadsafe(ask_agents(job, told), LOOP).result()


async def ask_agents(job, told):
    told["calls"] = []

    def held(name):
        async def invoke(_context, arguments):
            told["calls"].append([name, json.loads(arguments)])
            return "done"

        return FunctionTool(
            name=name, description=name, params_json_schema=PARAMETERS[name], on_invoke_tool=invoke
        )

    settings = ModelSettings()
    if job["declare"] != job["tools"]:
        # The SDK's own way to say what the request carries.
        settings = ModelSettings(extra_body={"tools": [declaration(name, job["api"]) for name in job["declare"]]})
    structured = job["kind"] == "structured"
    agent = Agent(
        name="Research Assistant",
        model=job["model"],
        tools=[held(name) for name in job["tools"]],
        model_settings=settings,
        output_type=City if structured else None,
    )
    where = {"api_key": API_KEY, "base_url": job["base"]}
    if not job["retries"]:
        where = {"openai_client": openai.AsyncOpenAI(**options_of(job))}
    provider = OpenAIProvider(**where, use_responses=job["api"] == "responses")
    config = RunConfig(model_provider=provider)
    # The Agents SDK writes messages as the Responses API does, on either.
    message = [user_message({**job, "api": "responses"})] if job["kind"] == "vision" else PROMPT
    if job["stream"]:
        result = Runner.run_streamed(agent, message, run_config=config)
        text, number = "", 0
        async for event in result.stream_events():
            number += 1
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                text += event.data.delta
                told["text"] = text
            if job["kind"] == "cancel" and number == EVENTS_BEFORE_CANCEL:
                told["cancelled"] = True
                result.cancel()
        if told.get("cancelled"):
            return
    else:
        result = await Runner.run(agent, message, run_config=config)
        told["text"] = result.final_output
    if structured:
        told.pop("text", None)
        told["object"] = result.final_output.model_dump()


# --------------------------------------------------------- langchain-openai


def run_langchain(job, told):
    kind, options = job["kind"], {"model": job["model"], **options_of(job)}
    if kind == "embeddings":
        # Without it the text is cut into tokens first, whose table is fetched from elsewhere.
        embeddings = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
        told["dimensions"] = len(embeddings.embed_query(PROMPT))
        return
    model = ChatOpenAI(**options, use_responses_api=job["api"] == "responses")
    # LangChain writes messages as chat completions do, on either.
    message = [user_message({**job, "api": "chat"})]
    if kind == "structured":
        asked = model.with_structured_output(City)
        answer = list(asked.stream(message))[-1] if job["stream"] else asked.invoke(message)
        told["object"] = answer.model_dump()
        return
    if job["declare"]:
        model = model.bind_tools([declaration(name) for name in job["declare"]], strict=True)
    if not job["stream"]:
        answer = model.invoke(message)
        told["text"] = answer.text
    else:
        answer = None
        told["text"] = ""
        stream = model.stream(message)
        for number, chunk in enumerate(stream, 1):
            told["text"] += chunk.text
            answer = chunk if answer is None or kind in ("long", "cancel") else answer + chunk
            if kind == "cancel" and number == EVENTS_BEFORE_CANCEL:
                told["cancelled"] = True
                stream.close()
                return
    told["calls"] = [[call["name"], call["args"]] for call in answer.tool_calls]


# --------------------------------------------------------------------- jobs

RUN = {"openai-py": run_openai, "agents-py": run_agents, "langchain-py": run_langchain}
PACKAGES = {"openai-py": "openai", "agents-py": "openai-agents", "langchain-py": "langchain-openai"}
PRINTING = threading.Lock()


def say(value):
    with PRINTING:
        print(json.dumps(value), flush=True)


def run(job):
    told = {}
    try:
        RUN[job["sdk"]](job, told)
    except Exception as error:
        seen = {"class": type(error).__name__, "message": str(error), "type": getattr(error, "type", None)}
        if isinstance(getattr(error, "code", None), str):
            seen.update(code=error.code, where="error.code")
        if told.get("cancelled"):
            told["shown"] = f"`{seen['class']}`"
        else:
            told["error"] = seen
    say({"id": job["id"], **told})


def main():
    warnings.simplefilter("ignore")
    threading.Thread(target=LOOP.run_forever, daemon=True).start()
    logging.disable()  # refusals are logged
    set_tracing_disabled(True)
    say({"versions": {sdk: importlib.metadata.version(package) for sdk, package in PACKAGES.items()}})
    waiting = [job for job in TASK["jobs"] if job["kind"] == "rate"]
    others = [job for job in TASK["jobs"] if job["kind"] != "rate"]
    # Those that wait for a limit wait together.
    with ThreadPoolExecutor(max(len(waiting), 1)) as patient, ThreadPoolExecutor(AT_ONCE) as pool:
        for job in [patient.submit(run, job) for job in waiting] + [pool.submit(run, job) for job in others]:
            job.result()


main()
