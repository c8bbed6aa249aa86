//! async-openai in the matrix: does the jobs of a file, and prints what the application was given (matrix.mjs says
//! how). Requests are written as JSON and read into the crate's own types, as short as in the other languages.

use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::ReqwestService;
use futures::{Stream, StreamExt, future::join_all};
use serde_json::{Map, Value, json};

const PROMPT: &str = "Hello.";
const EVENTS_BEFORE_CANCEL: usize = 5;

type Told = Map<String, Value>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let task = std::env::args()
        .nth(1)
        .expect("usage: conformance-clients JOBS");
    let task: Value = serde_json::from_str(&std::fs::read_to_string(task).unwrap()).unwrap();
    let image = std::fs::read_to_string(task["image"].as_str().unwrap()).unwrap();
    let image = format!("data:image/png;base64,{image}");
    println!(
        "{}",
        json!({"versions": {"async-openai": env!("ASYNC_OPENAI_VERSION")}})
    );
    let (waiting, others): (Vec<_>, Vec<_>) = task["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .partition(|job| job["kind"] == "rate");
    // Those that wait for a limit wait together.
    let waiting = join_all(waiting.into_iter().map(|job| run(job, &image)));
    let others = async {
        for job in others {
            run(job, &image).await;
        }
    };
    futures::join!(waiting, others);
}

async fn run(job: &Value, image: &str) {
    let mut told = Told::new();
    if let Err(error) = ask(job, image, &mut told).await {
        told.insert("error".to_owned(), shown(&error));
    }
    told.insert("id".to_owned(), job["id"].clone());
    println!("{}", Value::Object(told));
}

/// How a user of the crate finds the rule that refused.
fn shown(error: &OpenAIError) -> Value {
    let (class, code, found) = match error {
        OpenAIError::ApiError(error) => (
            "OpenAIError::ApiError",
            error.api_error.code.clone(),
            "error.api_error.code",
        ),
        // What the stream held in an event's place; the type has no better word for it.
        OpenAIError::JSONDeserialize(_, content) => {
            let content: Value = serde_json::from_str(content).unwrap_or_default();
            let code = content["error"]["code"].as_str().map(str::to_owned);
            (
                "OpenAIError::JSONDeserialize",
                code,
                "the JSON that it holds, `error.code`",
            )
        }
        _ => ("OpenAIError", None, ""),
    };
    json!({"class": class, "code": code, "where": found, "message": error.to_string()})
}

fn user_message(job: &Value, image: &str) -> Value {
    let content = if job["kind"] != "vision" {
        json!(PROMPT)
    } else if job["api"] == "chat" {
        json!([{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": image}}])
    } else {
        json!([{"type": "input_text", "text": PROMPT},
               {"type": "input_image", "image_url": image, "detail": "auto"}])
    };
    json!({"role": "user", "content": content})
}

fn schema(properties: &Value) -> Value {
    let required: Vec<_> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn declaration(name: &str, chat: bool) -> Value {
    let parameters = match name {
        "calculator" => json!({"a": {"type": "number"}, "b": {"type": "number"}}),
        _ => json!({"path": {"type": "string"}}),
    };
    let function = json!({"name": name, "parameters": schema(&parameters), "strict": true});
    if chat {
        return json!({"type": "function", "function": function});
    }
    let mut flat = function;
    flat["type"] = json!("function");
    flat
}

fn request(job: &Value, image: &str) -> Value {
    let chat = job["api"] == "chat";
    let messages = json!([user_message(job, image)]);
    let mut request = json!({"model": job["model"], "stream": job["stream"]});
    request[if chat { "messages" } else { "input" }] = messages;
    let declared = job["declare"].as_array().unwrap();
    if !declared.is_empty() {
        request["tools"] = declared
            .iter()
            .map(|name| declaration(name.as_str().unwrap(), chat))
            .collect();
    }
    if job["kind"] == "structured" {
        let city = schema(&json!({"city": {"type": "string"}, "inhabitants": {"type": "integer"}}));
        let format = json!({"name": "city", "schema": city, "strict": true});
        if chat {
            request["response_format"] = json!({"type": "json_schema", "json_schema": format});
        } else {
            let mut flat = format;
            flat["type"] = json!("json_schema");
            request["text"] = json!({"format": flat});
        }
    }
    request
}

/// The crate's own request types, from JSON.
fn typed<T: serde::de::DeserializeOwned>(request: Value) -> T {
    serde_json::from_value(request).expect("the crate's types take this request")
}

async fn ask(job: &Value, image: &str, told: &mut Told) -> Result<(), OpenAIError> {
    let config = OpenAIConfig::new()
        .with_api_base(job["base"].as_str().unwrap())
        .with_api_key("sk-conformance");
    let mut client = Client::with_config(config);
    if job["retries"] == false {
        // The default has a layer of retries around this.
        client = client.with_http_service(ReqwestService::new(Default::default()));
    }
    let streamed = job["stream"] == true;
    let mut given = Given {
        text: String::new(),
        calls: Vec::new(),
        cancelled: false,
        refusal: None,
    };
    let outcome = match (job["kind"].as_str().unwrap(), job["api"].as_str().unwrap()) {
        ("embeddings", _) => {
            let request = typed(json!({"model": job["model"], "input": PROMPT}));
            let answer = client.embeddings().create(request).await?;
            told.insert(
                "dimensions".to_owned(),
                json!(answer.data[0].embedding.len()),
            );
            return Ok(());
        }
        (kind, "chat") if streamed => {
            let stream = client
                .chat()
                .create_stream(typed(request(job, image)))
                .await?;
            given.read(kind, stream, Given::chat_event).await
        }
        (kind, _) if streamed => {
            let stream = client
                .responses()
                .create_stream(typed(request(job, image)))
                .await?;
            given.read(kind, stream, Given::response_event).await
        }
        (_, "chat") => {
            let answer = client.chat().create(typed(request(job, image))).await?;
            let message = json!(answer.choices[0].message);
            given.text = message["content"].as_str().unwrap_or_default().to_owned();
            let calls = message["tool_calls"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            given.calls = calls
                .iter()
                .map(|call| call_of(&call["function"]))
                .collect();
            Ok(())
        }
        _ => {
            let answer = client
                .responses()
                .create(typed(request(job, image)))
                .await?;
            given.text = answer.output_text().unwrap_or_default();
            let items = json!(answer.output);
            let calls = items
                .as_array()
                .unwrap()
                .iter()
                .filter(|item| item["type"] == "function_call");
            given.calls = calls.map(call_of).collect();
            Ok(())
        }
    };
    if job["kind"] == "structured" {
        // The crate has the request's side of it; the answer is the application's to read.
        told.insert(
            "object".to_owned(),
            serde_json::from_str(&given.text).unwrap_or_default(),
        );
    } else {
        told.insert("text".to_owned(), json!(given.text));
        let calls = given.calls.iter().map(|(name, arguments)| {
            json!([
                name,
                serde_json::from_str::<Value>(arguments).unwrap_or_default()
            ])
        });
        told.insert("calls".to_owned(), calls.collect());
    }
    if let Some(refusal) = given.refusal {
        told.insert("error".to_owned(), refusal);
    }
    if given.cancelled {
        told.insert("cancelled".to_owned(), json!(true));
        // The crate closes the connection in a task of its own.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    outcome
}

fn call_of(function: &Value) -> (String, String) {
    let member = |name: &str| function[name].as_str().unwrap_or_default().to_owned();
    (member("name"), member("arguments"))
}

/// What the application was given.
struct Given {
    text: String,
    calls: Vec<(String, String)>,
    cancelled: bool,
    /// An error that came as an event, which ends no stream for the crate.
    refusal: Option<Value>,
}

impl Given {
    async fn read<T: serde::Serialize>(
        &mut self,
        kind: &str,
        mut stream: impl Stream<Item = Result<T, OpenAIError>> + Unpin,
        take: fn(&mut Self, &Value),
    ) -> Result<(), OpenAIError> {
        let mut events = 0;
        while let Some(event) = stream.next().await {
            take(self, &json!(event?));
            events += 1;
            if kind == "cancel" && events == EVENTS_BEFORE_CANCEL {
                self.cancelled = true;
                return Ok(());
            }
        }
        Ok(())
    }

    fn chat_event(&mut self, event: &Value) {
        let delta = &event["choices"][0]["delta"];
        self.text
            .push_str(delta["content"].as_str().unwrap_or_default());
        for part in delta["tool_calls"].as_array().into_iter().flatten() {
            let (name, arguments) = call_of(&part["function"]);
            if name.is_empty() {
                let index = part["index"].as_u64().unwrap() as usize;
                self.calls[index].1.push_str(&arguments);
            } else {
                self.calls.push((name, arguments));
            }
        }
    }

    fn response_event(&mut self, event: &Value) {
        if event["type"] == "response.output_text.delta" {
            self.text
                .push_str(event["delta"].as_str().unwrap_or_default());
        }
        if event["type"] == "error" {
            self.refusal = Some(json!({
                "class": "Ok(ResponseStreamEvent::ResponseError)", "code": event["code"], "where": "event.code",
                "message": event["message"],
            }));
        }
        let item = &event["item"];
        if event["type"] == "response.output_item.done" && item["type"] == "function_call" {
            self.calls.push(call_of(item));
        }
    }
}
