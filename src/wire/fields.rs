//! Where each endpoint's request names models and tools: data, to be read beside the API reference
//! (<https://platform.openai.com/docs/api-reference>).
//!
//! A table lists the keys of one object that mean something to a policy; every other key is skipped, and one that is a
//! listed key but for its case is refused. What a key means is a [`Read`].

/// An object's keys that have a meaning.
pub(crate) type Fields = &'static [(&'static str, Read)];

/// What the value of a key means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    /// A model's name. It may be absent, but not `null`.
    Model,
    /// A model's name beside the main one; `null` is absent.
    OtherModel,
    /// A list of models that the server may choose from.
    OtherModels,
    /// Anything but `null` here lets the server choose a model that isn't named.
    HiddenModel,
    /// The id of something stored that brings its own model and tools: a string, or an object with an `id`.
    Stored,
    /// A list of tool definitions.
    Tools,
    /// The legacy list of functions.
    Functions,
    /// A word, or a definition that names tools.
    ToolChoice,
    /// A word, or an object with a `name`.
    FunctionCall,
    /// Anything but `null` here switches on this tool, which the provider runs.
    Switch(&'static str),
    /// Chat messages.
    Messages,
    /// A string, or a list of Responses items.
    Items,
    /// Text that counts for the estimate of the prompt.
    Text,
    /// A prompt, or a list of prompts of which each gets choices of its own.
    Prompts,
    /// A boolean: is the answer to be streamed.
    Stream,
    /// An object that may ask for the stream's usage.
    StreamOptions,
    /// A boolean: does the run go on after its answer.
    Background,
    /// How many choices the answer may have.
    Choices,
    /// The most tokens that the answer may have.
    OutputCap,
    /// An object in which these keys have a meaning.
    Object(Fields),
    /// A list of such objects.
    Objects(Fields),
    /// An object whose every member is such an object.
    Members(Fields),
}

use Read::{
    Background, Choices, FunctionCall, Functions, HiddenModel, Items, Members, Messages, Model,
    Object, Objects, OtherModel, OtherModels, OutputCap, Prompts, Stored, Stream, StreamOptions,
    Switch, Text, ToolChoice, Tools,
};

const MODERATION: Read = Object(&[("model", OtherModel)]);
const SVG: Read = Object(&[("model", OtherModel)]);
const ATTACHMENTS: Read = Objects(&[
    ("attachments", Objects(&[("tools", Tools)])),
    ("content", Text),
]);
/// An assistant's or thread's resources name files and stores, not models or tools.
const TRANSCRIPTION: Read = Object(&[("model", OtherModel)]);
const AUDIO_INPUT: Read = Object(&[("input", Object(&[("transcription", TRANSCRIPTION)]))]);

/// `POST /chat/completions`, with the keys by which compatible servers name further models and tools.
pub(crate) const CHAT: Fields = &[
    ("model", Model),
    ("messages", Messages),
    ("tools", Tools),
    ("functions", Functions),
    ("tool_choice", ToolChoice),
    ("function_call", FunctionCall),
    ("web_search_options", Switch("web_search")),
    ("moderation", MODERATION),
    ("stream", Stream),
    ("stream_options", StreamOptions),
    ("n", Choices),
    ("max_tokens", OutputCap),
    ("max_completion_tokens", OutputCap),
    ("response_format", Text),
    // Compatible servers.
    ("models", OtherModels),
    ("fallbacks", HiddenModel),
    ("route", HiddenModel),
    ("extra_body", HiddenModel),
    ("agent_id", Stored),
    ("plugins", Switch("plugins")),
    ("search_parameters", Switch("search_parameters")),
    ("search_settings", Switch("search_settings")),
    ("compound_custom", Switch("compound_custom")),
    ("data_sources", Switch("data_sources")),
];

/// `POST /completions`.
pub(crate) const COMPLETIONS: Fields = &[
    ("model", Model),
    ("models", OtherModels),
    ("fallbacks", HiddenModel),
    ("prompt", Prompts),
    ("suffix", Text),
    ("stream", Stream),
    ("stream_options", StreamOptions),
    ("n", Choices),
    ("best_of", Choices),
    ("max_tokens", OutputCap),
];

/// `POST /responses`, `/responses/compact` and `/responses/input_tokens`.
pub(crate) const RESPONSES: Fields = &[
    ("model", Model),
    ("models", OtherModels),
    ("fallbacks", HiddenModel),
    ("route", HiddenModel),
    ("extra_body", HiddenModel),
    ("input", Items),
    ("instructions", Text),
    ("tools", Tools),
    ("tool_choice", ToolChoice),
    ("moderation", MODERATION),
    ("prompt", Stored),
    ("agent_id", Stored),
    ("multi_agent", Switch("multi_agent")),
    ("plugins", Switch("plugins")),
    ("stream", Stream),
    ("background", Background),
    ("max_output_tokens", OutputCap),
    ("text", Text),
];

/// `POST /decisions`.
pub(crate) const DECISIONS: Fields = &[("model", Model), ("input", Items), ("instructions", Text)];

/// `POST /conversations` and `/conversations/{id}/items`.
pub(crate) const CONVERSATION: Fields = &[("items", Items)];

/// `POST /embeddings` and `/moderations`.
pub(crate) const INPUT: Fields = &[("model", Model), ("input", Text)];

/// `POST /images/*`, as JSON or as form.
pub(crate) const IMAGES: Fields = &[
    ("model", Model),
    ("svg", SVG),
    ("prompt", Text),
    ("stream", Stream),
    ("n", Choices),
];

/// `POST /audio/*`, as JSON or as form.
pub(crate) const AUDIO: Fields = &[
    ("model", Model),
    ("input", Text),
    ("instructions", Text),
    ("prompt", Text),
    ("stream", Stream),
];

/// `POST /videos*`, as JSON or as form.
pub(crate) const VIDEOS: Fields = &[("model", Model), ("prompt", Text)];

/// `POST /assistants` and `/agents`.
pub(crate) const ASSISTANT: Fields = &[("model", Model), ("instructions", Text), ("tools", Tools)];

/// `POST /threads`, and a thread inside another request.
pub(crate) const THREAD: Fields = &[("messages", ATTACHMENTS)];

/// `POST /threads/{id}/messages`.
pub(crate) const THREAD_MESSAGE: Fields = &[
    ("attachments", Objects(&[("tools", Tools)])),
    ("content", Text),
];

/// `POST /threads/runs`, `/threads/{id}/runs` and `.../submit_tool_outputs`.
pub(crate) const RUN: Fields = &[
    ("model", Model),
    ("instructions", Text),
    ("additional_instructions", Text),
    ("additional_messages", ATTACHMENTS),
    ("thread", Object(THREAD)),
    ("tools", Tools),
    ("tool_choice", ToolChoice),
    ("tool_outputs", Text),
    ("stream", Stream),
    ("max_completion_tokens", OutputCap),
];

/// `POST /evals*`.
pub(crate) const EVAL: Fields = &[
    ("testing_criteria", Objects(&[("model", OtherModel)])),
    (
        "data_source",
        Object(&[
            ("model", OtherModel),
            ("source", Object(&[("model", OtherModel), ("tools", Tools)])),
            ("sampling_params", Object(&[("tools", Tools)])),
        ]),
    ),
];

const GRADER: Read = Object(&[
    ("model", OtherModel),
    ("graders", Members(&[("model", OtherModel)])),
]);

/// `POST /fine_tuning/jobs`.
pub(crate) const FINE_TUNING: Fields = &[
    ("model", Model),
    (
        "method",
        Object(&[("reinforcement", Object(&[("grader", GRADER)]))]),
    ),
];

/// `POST /fine_tuning/alpha/graders/*`.
pub(crate) const GRADERS: Fields = &[("grader", GRADER)];

const SESSION: Fields = &[
    ("model", Model),
    ("instructions", Text),
    ("tools", Tools),
    ("tool_choice", ToolChoice),
    ("prompt", Stored),
    ("audio", AUDIO_INPUT),
    ("input_audio_transcription", TRANSCRIPTION),
    (
        "delegation",
        Object(&[
            (
                "responses",
                Object(&[
                    ("model", OtherModel),
                    ("tools", Tools),
                    ("tool_choice", ToolChoice),
                ]),
            ),
            ("decisions", Object(&[("model", OtherModel)])),
        ]),
    ),
];

/// `POST /realtime/sessions`, `/realtime/transcription_sessions`, `/realtime/calls/{id}/accept` and `/live/sessions*`:
/// the session's keys, at the top or below `session`.
pub(crate) const REALTIME: Fields = &[
    ("model", Model),
    ("instructions", Text),
    ("tools", Tools),
    ("tool_choice", ToolChoice),
    ("prompt", Stored),
    ("audio", AUDIO_INPUT),
    ("input_audio_transcription", TRANSCRIPTION),
    ("session", Object(SESSION)),
];

/// `POST /agents/sessions*`.
pub(crate) const AGENT_SESSION: Fields = &[
    ("agent_id", Stored),
    ("agent", Object(ASSISTANT)),
    ("environment", Object(&[("skills", Switch("skills"))])),
    ("input", Items),
];
