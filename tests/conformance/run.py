"""Runs the real, unmodified `openai` and `openai-agents` packages against
`sekuire-gateway`, with a small provider of this file behind it:

    client -> sekuire-gateway -> Provider

Every case runs plain and streaming, on the chat completions API and on the
Responses API, and counts the HTTP attempts of the client and the requests that
reached the provider.

    SEKUIRE_GATEWAY   path of the gateway binary (required)
    SEKUIRE_POLICIES  folder of the policies (default ../../policies)
    SEKUIRE_ONLY=TEXT runs only the cases whose name contains TEXT
"""

import asyncio
import json
import logging
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

# Nothing of the caller's environment may change what the clients do.
for variable in list(os.environ):
    if variable.startswith("OPENAI_") or variable.lower().endswith("_proxy"):
        del os.environ[variable]

import openai
from agents import (
    Agent,
    FunctionTool,
    ModelSettings,
    Runner,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import APIError, PermissionDeniedError, RateLimitError

HERE = pathlib.Path(__file__).resolve().parent
GATEWAY = os.environ.get("SEKUIRE_GATEWAY")
POLICIES = pathlib.Path(os.environ.get("SEKUIRE_POLICIES") or HERE / "../../policies").resolve()
POLICY = "research-assistant-loopback.yml"
ROOMY_POLICY = "conformance-roomy.yml"  # the same, with a higher request limit

TEST_TIMEOUT_S = 15
RUN_TIMEOUT_S = 170

# The provider refuses any other key: the gateway has to pass the client's on.
API_KEY = "sk-conformance"

# ---------------------------------------------------------------- provider

PROVIDER_TEXT = "Paris has about two million inhabitants, and many cafés."
BEFORE_THE_CALL = "Let me tidy up first."
TOOL_ANSWER = "The sum is 5."

# What the provider answers to a prompt: text, and calls as (name, arguments).
SCRIPT = {
    "say something": (PROVIDER_TEXT, []),
    "add two and three": (None, [("calculator", '{"a":2,"b":3}')]),
    "delete my notes": (None, [("file_delete", '{"path":"notes.txt"}')]),
    "tidy up my desk": (BEFORE_THE_CALL, [("file_delete", '{"path":"notes.txt"}')]),
    "send an e-mail": (None, [("send_email", '{"to":"someone"}')]),
    "add, then delete": (
        None,
        [("calculator", '{"a":2,"b":3}'), ("file_delete", '{"path":"notes.txt"}')],
    ),
}


def pieces(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


def envelope(request, kind):
    return {"id": "chatcmpl-1", "object": kind, "created": 1700000000, "model": request["model"]}


def whole_answer(request, text, calls):
    message = {"role": "assistant", "content": text, "refusal": None}
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(calls)
        ]
    return {
        **envelope(request, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls" if calls else "stop",
            }
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
    }


def streamed_answer(request, text, calls):
    """The events of a stream: a comment, the deltas, usage when asked, the end."""

    def event(delta, finish=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        chunk = {**envelope(request, "chat.completion.chunk"), "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    yield ": keep-alive\n\n"
    yield event({"role": "assistant", "content": "" if text else None, "refusal": None})
    for piece in pieces(text or "", 7):
        yield event({"content": piece})
    for at, (name, arguments) in enumerate(calls):
        head = {"name": name, "arguments": ""}
        yield event({"tool_calls": [{"index": at, "id": f"call_{at}", "type": "function", "function": head}]})
        for piece in pieces(arguments, 5):
            yield event({"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
    yield event({}, "tool_calls" if calls else "stop")
    if (request.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
        yield f"data: {json.dumps({**envelope(request, 'chat.completion.chunk'), 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def chat_turn(request):
    last = request["messages"][-1]
    return (TOOL_ANSWER, []) if last["role"] == "tool" else SCRIPT[last["content"]]


def responses_turn(request):
    items = request["input"]
    if isinstance(items, str):
        return SCRIPT[items]
    return (TOOL_ANSWER, []) if items[-1].get("type") == "function_call_output" else SCRIPT[items[-1]["content"]]


def output_items(text, calls):
    items = []
    if text:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        items.append(
            {"id": "msg_1", "type": "message", "status": "completed", "content": [part], "role": "assistant"}
        )
    for at, (name, arguments) in enumerate(calls):
        call = {"id": f"fc_{at}", "type": "function_call", "status": "completed", "arguments": arguments}
        items.append({**call, "call_id": f"call_{at}", "name": name})
    return items


def response_object(request, status, output):
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 21,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": None,
        "model": request["model"],
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": request.get("tool_choice", "auto"),
        "tools": request.get("tools", []),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if status == "completed" else None,
        "metadata": {},
    }


def whole_response(request, text, calls):
    return response_object(request, "completed", output_items(text, calls))


def response_events(request, output):
    for kind in ("response.created", "response.in_progress"):
        yield kind, {"response": response_object(request, "in_progress", [])}
    for index, item in enumerate(output):
        place = {"output_index": index}
        inside = {"item_id": item["id"], **place}
        added = {**item, "status": "in_progress"}
        if item["type"] == "message":
            part = item["content"][0]
            inside["content_index"] = 0
            yield "response.output_item.added", {**place, "item": {**added, "content": []}}
            yield "response.content_part.added", {**inside, "part": {**part, "text": ""}}
            for piece in pieces(part["text"], 7):
                delta = {"delta": piece, "logprobs": [], "obfuscation": "x7"}
                yield "response.output_text.delta", {**inside, **delta}
            yield "response.output_text.done", {**inside, "text": part["text"], "logprobs": []}
            yield "response.content_part.done", {**inside, "part": part}
        else:
            yield "response.output_item.added", {**place, "item": {**added, "arguments": ""}}
            for piece in pieces(item["arguments"], 5):
                yield "response.function_call_arguments.delta", {**inside, "delta": piece, "obfuscation": "x7"}
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield "response.function_call_arguments.done", {**inside, **done}
        yield "response.output_item.done", {**place, "item": item}
    yield "response.completed", {"response": response_object(request, "completed", output)}


def streamed_response(request, text, calls):
    """The events of a stream: a comment, the numbered events. This API has no `[DONE]`."""
    yield ": keep-alive\n\n"
    for number, (kind, members) in enumerate(response_events(request, output_items(text, calls))):
        event = {"type": kind, "sequence_number": number, **members}
        yield f"event: {kind}\ndata: {json.dumps(event)}\n\n"


PATHS = {
    "/v1/chat/completions": (chat_turn, whole_answer, streamed_answer),
    "/v1/responses": (responses_turn, whole_response, streamed_response),
}


class Provider(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ProviderHandler)
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that goes away is part of the test


class ProviderHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(request)
        if self.path not in PATHS:
            return self.send_json(404, {"error": {"message": self.path, "code": "not_found"}})
        if self.headers["authorization"] != f"Bearer {API_KEY}":
            return self.send_json(401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
        turn, whole, streamed = PATHS[self.path]
        text, calls = turn(request)
        if not request.get("stream"):
            return self.send_json(200, whole(request, text, calls))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in streamed(request, text, calls):
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def send_json(self, status, value):
        data = json.dumps(value, indent=1).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


# ----------------------------------------------------------------- gateway


class Gateway:
    running = []

    def __init__(self, policy, upstream):
        command = [GATEWAY, "serve", "--policy", str(policy), "--listen", "127.0.0.1:0", "--upstream", upstream]
        self.log = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        Gateway.running.append(self)
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.child.stdout.readline()), daemon=True)
        reader.start()
        reader.join(10)
        said = re.fullmatch(r"listening on (http://\S+)\n", lines[0] if lines else "")
        if not said:
            self.kill()
            raise RuntimeError(f"the gateway did not listen; stdout: {lines}, stderr: {self.stderr()}")
        self.url = said[1]

    def stderr(self):
        self.log.seek(0)
        return self.log.read()[-4000:]

    def stop(self):
        """SIGTERM. Returns the exit code and what else stdout said."""
        self.child.terminate()
        rest, _ = self.child.communicate(timeout=5)
        return self.child.returncode, rest

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


# ----------------------------------------------------------------- clients


def schema(**properties):
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }


PARAMETERS = {
    "calculator": schema(a="number", b="number"),
    "file_delete": schema(path="string"),
    "send_email": schema(to="string"),
}
BODIES = {
    "calculator": lambda a, b: str(a + b),
    "file_delete": lambda path: "deleted",
    "send_email": lambda to: "sent",
}


def declaration(name):
    function = {"name": name, "description": name, "parameters": PARAMETERS[name], "strict": True}
    return {"type": "function", "function": function}


def responses_declaration(name):
    return {"type": "function", **declaration(name)["function"]}


def client_options(origin, max_retries, count, hook):
    """Options of an unmodified client; a hook of its HTTP client counts."""
    options = {"api_key": API_KEY, "base_url": f"{origin}/v1", "timeout": 5}
    if max_retries is not None:
        options["max_retries"] = max_retries
    http_client = openai.DefaultAsyncHttpxClient if hook == "async" else openai.DefaultHttpxClient

    def counted(request):
        count.append(request.url)

    async def counted_async(request):
        count.append(request.url)

    hooks = {"request": [counted_async if hook == "async" else counted]}
    return {**options, "http_client": http_client(event_hooks=hooks)}


def run_by_hand(ask):
    """What an application writes around the SDK: ask, execute, ask again."""

    def drive(case):
        with openai.OpenAI(**client_options(case.origin, case.max_retries, case.attempts, "sync")) as client:
            messages = [{"role": "user", "content": case.prompt}]
            for _ in range(4):
                request = {"model": case.model, "messages": messages}
                if case.declare:
                    request["tools"] = [declaration(name) for name in case.declare]
                content, calls = ask(client, request, case)
                if not calls:
                    return content
                messages.append(
                    {
                        "role": "assistant",
                        "content": content,
                        "tool_calls": [
                            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                            for id, name, arguments in calls
                        ],
                    }
                )
                for id, name, arguments in calls:
                    messages.append({"role": "tool", "tool_call_id": id, "content": case.execute(name, arguments)})
            raise AssertionError("the agent did not come to an end")

    return drive


def read_message(message):
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or []]
    return message.content, calls


def ask_create(client, request, case):
    if not case.stream:
        return read_message(client.chat.completions.create(**request).choices[0].message)
    content, calls = "", {}
    for chunk in client.chat.completions.create(**request, stream=True):
        case.seen.append(chunk.model_dump_json())
        delta = chunk.choices[0].delta
        content += delta.content or ""
        case.text += delta.content or ""
        for part in delta.tool_calls or []:
            call = calls.setdefault(part.index, [part.id, part.function.name, ""])
            call[2] += part.function.arguments or ""
    return content, list(calls.values())


def ask_helpers(client, request, case):
    """The SDK's own accumulators, `parse` and `stream`."""
    if not case.stream:
        return read_message(client.chat.completions.parse(**request).choices[0].message)
    with client.chat.completions.stream(**request) as events:
        for event in events:
            case.seen.append(event.model_dump_json())
            if event.type == "content.delta":
                case.text += event.delta
        return read_message(events.get_final_completion().choices[0].message)


def run_responses_by_hand(ask):
    """The same on the Responses API."""

    def drive(case):
        with openai.OpenAI(**client_options(case.origin, case.max_retries, case.attempts, "sync")) as client:
            items = [{"role": "user", "content": case.prompt}]
            for _ in range(4):
                request = {"model": case.model, "input": items}
                if case.declare:
                    request["tools"] = [responses_declaration(name) for name in case.declare]
                output = ask(client, request, case)
                calls = [item for item in output if item.type == "function_call"]
                if not calls:
                    return "".join(part.text for item in output for part in item.content)
                items += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in output]
                for call in calls:
                    result = case.execute(call.name, call.arguments)
                    items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})
            raise AssertionError("the agent did not come to an end")

    return drive


def read_response_event(event, case):
    # The SDK's own model of a parsed answer warns when it is written as JSON.
    case.seen.append(event.model_dump_json(warnings=False))
    if event.type == "response.output_text.delta":
        case.text += event.delta


def ask_responses_create(client, request, case):
    if not case.stream:
        return client.responses.create(**request).output
    output, completed = [], False
    for event in client.responses.create(**request, stream=True):
        read_response_event(event, case)
        if event.type == "response.output_item.done":
            output.append(event.item)
        completed = completed or event.type == "response.completed"
    assert completed, "the stream ended before its response"
    return output


def ask_responses_helpers(client, request, case):
    if not case.stream:
        return client.responses.parse(**request).output
    with client.responses.stream(**request) as events:
        for event in events:
            read_response_event(event, case)
        return events.get_final_response().output


def run_agents(case):
    """The Agents SDK."""
    set_default_openai_api(case.api)
    declared = responses_declaration if case.api == RESPONSES else declaration

    def held(name):
        async def invoke(_context, arguments):
            return case.execute(name, arguments)

        return FunctionTool(
            name=name, description=name, params_json_schema=PARAMETERS[name], on_invoke_tool=invoke
        )

    async def drive():
        options = client_options(case.origin, case.max_retries, case.attempts, "async")
        async with openai.AsyncOpenAI(**options) as client:
            set_default_openai_client(client, use_for_tracing=False)
            settings = ModelSettings()
            if case.declare != case.tools:
                # The SDK's own way to say what the request carries.
                settings = ModelSettings(extra_body={"tools": [declared(name) for name in case.declare]})
            agent = Agent(
                name="Research Assistant",
                instructions="Help.",
                model=case.model,
                tools=[held(name) for name in case.tools],
                model_settings=settings,
            )
            if not case.stream:
                return (await Runner.run(agent, case.prompt, max_turns=4)).final_output
            result = Runner.run_streamed(agent, case.prompt, max_turns=4)
            async for event in result.stream_events():
                if event.type != "raw_response_event":
                    continue
                case.seen.append(event.data.model_dump_json())
                if event.data.type == "response.output_text.delta":
                    case.text += event.data.delta
            return result.final_output

    return asyncio.run(drive())


DRIVERS = {
    "openai create": run_by_hand(ask_create),
    "openai parse/stream": run_by_hand(ask_helpers),
    "openai-agents": run_agents,
    "openai responses create": run_responses_by_hand(ask_responses_create),
    "openai responses parse/stream": run_responses_by_hand(ask_responses_helpers),
    "openai-agents responses": run_agents,
}
CHAT, RESPONSES = "chat_completions", "responses"  # as the Agents SDK names them

# ------------------------------------------------------------------- cases


def attempt(
    world, driver, prompt, *, stream, model="gpt-4o-mini", tools=(), declare=None, origin=None, max_retries=None
):
    """Runs one agent and says what happened. Does not raise what the SDK raised.

    `tools` is what the application can execute, `declare` what its request
    declares (an application can hold more).
    """
    executed = []

    def execute(name, arguments):
        executed.append(name)
        return BODIES[name](**json.loads(arguments))

    case = SimpleNamespace(
        api=RESPONSES if "responses" in driver else CHAT,
        origin=origin or world.gateway.url,
        model=model,
        prompt=prompt,
        stream=stream,
        tools=list(tools),
        declare=list(tools if declare is None else declare),
        max_retries=max_retries,
        attempts=[],
        seen=[],
        text="",
        execute=execute,
    )
    before = len(world.provider.requests)
    outcome = SimpleNamespace(answer=None, error=None, executed=executed, seen=case.seen)
    try:
        outcome.answer = DRIVERS[driver](case)
    except openai.OpenAIError as error:
        outcome.error = error
    outcome.text = case.text
    outcome.attempts = len(case.attempts)
    outcome.upstream = len(world.provider.requests) - before
    return outcome


def same(actual, expected, what):
    assert actual == expected, f"{what}: {actual!r}, not {expected!r}"


def assert_answered(outcome, text, requests, executed=()):
    if outcome.error:
        raise outcome.error
    same(outcome.answer, text, "answer")
    same(outcome.executed, list(executed), "tools executed")
    same(outcome.attempts, requests, "attempts of the client")
    same(outcome.upstream, requests, "requests upstream")


def assert_refused(outcome, kind, status, code, message, upstream):
    """One refusal: the SDK's own typed error, no retry, nothing executed."""
    error = outcome.error
    assert error, f"no error; the agent answered {outcome.answer!r}"
    assert isinstance(error, kind), f"{kind.__name__} expected, not {error!r}"
    same(error.code, code, "code")
    same(getattr(error, "status_code", None), status, "status")
    assert message in str(error), f"message: {error}"
    same(outcome.executed, [], "tools executed")
    same(outcome.attempts, 1, "attempts of the client")
    same(outcome.upstream, upstream, "requests upstream")


def assert_refused_request(outcome, code, message):
    assert_refused(outcome, PermissionDeniedError, 403, code, message, upstream=0)
    same(outcome.error.type, "policy_violation", "type")
    same(outcome.error.response.headers.get("x-should-retry"), "false", "x-should-retry")


def assert_refused_answer(outcome, stream, code, message):
    """403 before the head of a JSON answer, an error inside a stream."""
    kind, status = (APIError, None) if stream else (PermissionDeniedError, 403)
    assert_refused(outcome, kind, status, code, message, upstream=1)
    same(outcome.error.type, "policy_violation", "type")


HELD = dict(tools=["calculator", "file_delete"], declare=["calculator"])


def text_answer(world, driver, stream):
    outcome = attempt(world, driver, "say something", stream=stream)
    assert_answered(outcome, PROVIDER_TEXT, requests=1)
    if stream:
        same(outcome.text, PROVIDER_TEXT, "streamed text")


def allowed_tool_call(world, driver, stream):
    outcome = attempt(world, driver, "add two and three", stream=stream, tools=["calculator"])
    assert_answered(outcome, TOOL_ANSWER, requests=2, executed=["calculator"])
    request = world.provider.requests[-1]
    sent = request["input"][-1]["output"] if "input" in request else request["messages"][-1]["content"]
    same(sent, "5", "tool result sent")
    same("input" in request, "responses" in driver, "the API of the request")


def control_forbidden_tool_runs(world, driver, stream):
    """Says that the cases below can fail: the same agent, without the gateway."""
    outcome = attempt(world, driver, "delete my notes", stream=stream, origin=world.provider.url, **HELD)
    assert_answered(outcome, TOOL_ANSWER, requests=2, executed=["file_delete"])


def blocked_tool_in_the_answer(world, driver, stream):
    outcome = attempt(world, driver, "delete my notes", stream=stream, **HELD)
    assert_refused_answer(outcome, stream, "tool_blocked", "Tool file_delete is blocked")
    assert "file_delete" not in "".join(outcome.seen), "the call reached the application"


def text_then_blocked_tool_in_the_answer(world, driver, stream):
    outcome = attempt(world, driver, "tidy up my desk", stream=stream, **HELD)
    assert_refused_answer(outcome, stream, "tool_blocked", "Tool file_delete is blocked")
    assert "file_delete" not in "".join(outcome.seen), "the call reached the application"
    if stream:
        same(outcome.text, BEFORE_THE_CALL, "the text before the call")


def blocked_tool_beside_an_allowed_one(world, driver, stream):
    outcome = attempt(world, driver, "add, then delete", stream=stream, **HELD)
    assert_refused_answer(outcome, stream, "tool_blocked", "Tool file_delete is blocked")


def tool_off_the_list_in_the_answer(world, driver, stream):
    held = dict(tools=["calculator", "send_email"], declare=["calculator"])
    outcome = attempt(world, driver, "send an e-mail", stream=stream, **held)
    assert_refused_answer(outcome, stream, "tool_not_allowed", "Tool send_email is not in the allowlist")


def blocked_tool_declared(world, driver, stream):
    outcome = attempt(world, driver, "delete my notes", stream=stream, tools=["calculator", "file_delete"])
    assert_refused_request(outcome, "tool_blocked", "Tool file_delete is blocked")


def blocked_model(world, driver, stream):
    outcome = attempt(world, driver, "say something", stream=stream, model="gpt-3.5-turbo")
    assert_refused_request(outcome, "model_blocked", "Model gpt-3.5-turbo is not allowed")


def model_off_the_list(world, driver, stream):
    outcome = attempt(world, driver, "say something", stream=stream, model="gpt-4.1")
    assert_refused_request(outcome, "model_not_allowed", "Model gpt-4.1 is not in the allowlist")


def rate_limit(world, driver, stream):
    with Gateway(world.policies / POLICY, world.provider.url) as limited:

        def ask(model):
            return attempt(
                world, driver, "say something", stream=stream, model=model, origin=limited.url, max_retries=0
            )

        # A request that a rule refuses does not spend the limit.
        assert_refused_request(ask("gpt-3.5-turbo"), "model_blocked", "Model gpt-3.5-turbo is not allowed")
        for _ in range(10):
            assert_answered(ask("gpt-4o"), PROVIDER_TEXT, requests=1)

        outcome = ask("gpt-4o-mini")
        message = "Rate limit exceeded: 10 requests per minute"
        assert_refused(outcome, RateLimitError, 429, "rate_limit_exceeded", message, upstream=0)
        headers = outcome.error.response.headers
        seconds, milliseconds = headers.get("retry-after", ""), headers.get("retry-after-ms", "")
        assert re.fullmatch("[0-9]+", seconds), f"retry-after: {seconds!r}"
        assert 1 <= int(seconds) <= 60, f"retry-after: {seconds}"
        assert 0 < float(milliseconds or 0), f"retry-after-ms: {milliseconds!r}"
        assert math.ceil(float(milliseconds) / 1000) <= int(seconds), "retry-after is not rounded up"


def gateway_stops(world):
    code, rest = world.gateway.stop()
    same(code, 0, "exit code after SIGTERM")
    same(rest, "", "more on stdout than one line")


BODIES_OF_CASES = [
    text_answer,
    allowed_tool_call,
    control_forbidden_tool_runs,
    blocked_tool_in_the_answer,
    text_then_blocked_tool_in_the_answer,
    blocked_tool_beside_an_allowed_one,
    tool_off_the_list_in_the_answer,
    blocked_tool_declared,
    blocked_model,
    model_off_the_list,
    rate_limit,
]

# The matrix has these of the drivers without helpers.
OF_THE_MATRIX = (blocked_tool_declared, blocked_model)


def cases():
    for driver in DRIVERS:
        for stream in (False, True):
            for body in BODIES_OF_CASES:
                if body in OF_THE_MATRIX and "parse/stream" not in driver:
                    continue
                name = f"{driver}, {'streaming' if stream else 'plain'}: {body.__name__.replace('_', ' ')}"
                yield name, lambda world, b=body, d=driver, s=stream: b(world, d, s)
    yield "the gateway said one line on stdout and stops on SIGTERM", gateway_stops


# -------------------------------------------------------------------- main

tally = SimpleNamespace(passed=0, failed=[])


def prepare_policies(folder):
    source = POLICIES / POLICY
    if not source.is_file():
        raise RuntimeError(f"{source}: not found; set SEKUIRE_POLICIES")
    shutil.copytree(POLICIES, folder, dirs_exist_ok=True)
    text = source.read_text()
    roomy = re.sub(r"requests_per_minute: 10$", "requests_per_minute: 100000", text, flags=re.M)
    if roomy == text:
        raise RuntimeError(f'{source}: no line "requests_per_minute: 10"')
    (folder / ROOMY_POLICY).write_text(roomy)


def too_late(*_):
    raise TimeoutError(f"not done after {TEST_TIMEOUT_S} s")


def watchdog(folder):
    time.sleep(RUN_TIMEOUT_S)
    for left in Gateway.running:
        left.kill()
    shutil.rmtree(folder, ignore_errors=True)
    print(f"the run is not done after {RUN_TIMEOUT_S} s")
    print(f"{tally.passed} passed, {len(tally.failed) + 1} failed", flush=True)
    os._exit(1)


def run(world):
    signal.signal(signal.SIGALRM, too_late)
    only = os.environ.get("SEKUIRE_ONLY", "")
    for name, body in cases():
        if only not in name:
            continue
        start = time.monotonic()
        signal.alarm(TEST_TIMEOUT_S)
        try:
            body(world)
            tally.passed += 1
            print(f"ok    {name} ({(time.monotonic() - start) * 1000:.0f} ms)", flush=True)
        except Exception as error:
            tally.failed.append(name)
            here = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
            lines = ", ".join(str(frame.lineno) for frame in here)
            print(f"FAIL  {name}\n      {type(error).__name__}: {error} (run.py, lines {lines})", flush=True)
        finally:
            signal.alarm(0)
    if tally.failed:
        print(f"\nThe gateway's stderr ends:\n{world.gateway.stderr()}")
        print("Failed:\n" + "\n".join(f"  {name}" for name in tally.failed))


def main():
    if not GATEWAY:
        raise RuntimeError("SEKUIRE_GATEWAY: set it to the path of sekuire-gateway")
    set_tracing_disabled(True)
    logging.getLogger("openai.agents").setLevel(logging.CRITICAL)  # it logs each refusal
    with tempfile.TemporaryDirectory(prefix="sekuire-conformance-") as folder:
        threading.Thread(target=watchdog, args=[folder], daemon=True).start()
        policies = pathlib.Path(folder)
        prepare_policies(policies)
        provider = Provider()
        with Gateway(policies / ROOMY_POLICY, provider.url) as gateway:
            run(SimpleNamespace(provider=provider, gateway=gateway, policies=policies))
    print(f"{tally.passed} passed, {len(tally.failed)} failed")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        status = main()
    except Exception as error:
        print(f"{error}\n0 passed, 1 failed")
        status = 2
    sys.exit(status)
