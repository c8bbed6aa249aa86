//! What to write instead, of values that are of the wrong type and of text that a parser can't read.

use super::document::{Format, Node, Value};
use super::error::shown;
use super::reader::Field;
use super::schema::{self, is_limit};

/// For a service that is named without its key.
pub(super) const SERVICE: &str = "write `- service_name: openai` for each";

/// Where a mapping is due.
pub(super) fn on_mapping(field: &Field<'_>) -> String {
    if let Some(key) = field.node.text().and_then(glued) {
        return space_after(key);
    }
    if let Some(key) = field.node.text().filter(|text| is_known(text)) {
        return format!("put a colon behind `{key}`");
    }
    let help = match (&*field.place, &field.node.value) {
        (_, Value::Null) => "write its keys below it, indented, or remove the line",
        ("", _) => "begin with a section, such as `models:`, and indent its keys below it",
        ("agents", _) => "write each agent's name as a key, with its sections indented below it",
        ("permissions.api.allowed_services[]", _) => SERVICE,
        ("models" | "agent.models", Value::List(_) | Value::Text(_)) => {
            "write the models under `allowed_models` or `blocked_models`"
        }
        ("toolsets" | "agent.toolsets" | "tools", Value::List(_) | Value::Text(_)) => {
            "write the tools under `allowed_tools` or `blocked_tools`"
        }
        ("permissions.network", Value::List(_) | Value::Text(_)) => {
            "write the hosts under `allowed_domains` or `blocked_domains`"
        }
        ("permissions.filesystem", Value::List(_) | Value::Text(_)) => {
            "write the paths under `allowed_paths` or `blocked_paths`"
        }
        ("permissions.api", Value::List(_) | Value::Text(_)) => {
            "write the services under `allowed_services`"
        }
        ("rate_limits", _) => "write limits under `per_agent`, `per_model` or `global`",
        ("rate_limits.per_model", _) => {
            "write each model's name as a key, with its limits indented below it"
        }
        (place, _) if place.starts_with("rate_limits.per_model.") && is_limit(field.key) => {
            "write the model's name above it, as in `per_model: {gpt-4o: {requests_per_minute: 10}}`"
        }
        (place, _) if place.starts_with("rate_limits.") => {
            "write a limit as in `requests_per_minute: 10`, indented below it"
        }
        (_, Value::List(_)) => "write its keys below it, indented, without `- `",
        _ => "write its keys below it, indented",
    };
    help.to_owned()
}

/// Where text is due.
pub(super) fn on_text(field: &Field<'_>) -> String {
    let help = match &field.node.value {
        Value::Null if field.key.is_empty() => "write a text there, or remove the entry",
        Value::Null => "write it in quotes behind the colon, or remove the line",
        Value::Bool(_) | Value::Integer(_) | Value::Float(_)
            if field.place.ends_with("_domains[]") =>
        {
            "put it in quotes; an address is four numbers, as in `\"127.0.0.1\"`"
        }
        // Without an example: how it is written, as in `4.10`, isn't known any more.
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
            "put it in quotes, as it is written"
        }
        Value::Map(entries) => match &**entries {
            [(key, value)] if field.key.is_empty() => {
                return alone(&field.place, key.text().unwrap_or_default(), &value.value);
            }
            [(key, value)] => return quoted(key.text().unwrap_or_default(), &value.value),
            _ => match entries
                .iter()
                .find(|(key, _)| key.text().is_some_and(says_name))
            {
                Some((key, value)) if field.key.is_empty() => {
                    return alone(&field.place, key.text().unwrap_or_default(), &value.value);
                }
                _ => "write one text, without keys below it",
            },
        },
        Value::List(_) if field.key.is_empty() => "write each entry by itself, without brackets",
        Value::List(_) | Value::Text(_) => "write one text, not a list",
    };
    help.to_owned()
}

/// Of a mapping where a list has its entries, each a text.
pub(super) fn alone(place: &str, key: &str, value: &Value) -> String {
    let what = if place.ends_with("_domains[]") {
        "host"
    } else if ["_models[]", "_tools[]"]
        .iter()
        .any(|end| place.ends_with(end))
    {
        "name"
    } else {
        return quoted(key, value);
    };
    match value {
        Value::Text(text) if says_name(key) && place.ends_with("_tools[]") => {
            format!("write `- name: {}`", shown(text))
        }
        Value::Text(text) if says_name(key) => {
            format!("write the {what} alone: `- {}`", shown(text))
        }
        Value::Text(text) if what == "name" && !key.is_empty() => {
            let name = format!("{}:{}", shown(key), shown(text));
            format!("write a name with a colon without a space after it: `- {name}`")
        }
        Value::Integer(number) if what == "name" && !key.is_empty() => {
            let name = format!("{}:{number}", shown(key));
            format!("write a name with a colon without a space after it: `- {name}`")
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) if !key.is_empty() && !says_name(key) => {
            format!("write the {what} alone: `- {}`", shown(key))
        }
        _ => format!("write the {what} alone, without keys"),
    }
}

/// Of a mapping where a list of texts is due.
pub(super) fn on_list_of_keys(field: &Field<'_>, entries: &[(Node, Node)]) -> String {
    let what = if field.place.ends_with("_domains") {
        "hosts"
    } else if ["_models", "_tools"]
        .iter()
        .any(|end| field.place.ends_with(end))
    {
        "names"
    } else {
        return "begin each entry with `- `".to_owned();
    };
    let found = entries.iter().find_map(|(key, value)| {
        let key = key.text().filter(|key| !key.is_empty())?;
        match &value.value {
            Value::Text(text) if says_name(key) => Some(text.as_str()),
            Value::List(_) | Value::Map(_) => None,
            _ if says_name(key) => None,
            _ => Some(key),
        }
    });
    match found {
        Some(name) => format!("write a list of {what}: `- {}`", shown(name)),
        None => "begin each entry with `- `".to_owned(),
    }
}

/// Whether a key only says that a name follows.
fn says_name(key: &str) -> bool {
    matches!(
        key,
        "name" | "id" | "model" | "tool" | "host" | "domain" | "value" | "tool_name" | "model_name"
    )
}

/// Of a text with a colon in it, which is a mapping unless it stands in quotes.
pub(super) fn quoted(key: &str, value: &Value) -> String {
    let whole = match value {
        Value::Null if !key.is_empty() => format!("{}:", shown(key)),
        Value::Text(text) if !key.is_empty() => format!("{}: {}", shown(key), shown(text)),
        _ => return "put a text with a colon in quotes, as it is written".to_owned(),
    };
    format!("put a text with a colon in quotes: `\"{whole}\"`")
}

/// Where a whole number is due. How a number is written isn't known any more, but what it is.
pub(super) fn on_count(number: &str) -> String {
    let whole = number.strip_suffix(".0").unwrap_or(number);
    if whole.bytes().all(|byte| byte.is_ascii_digit()) && whole.len() < 16 {
        return format!("write digits only, without point or exponent: `{whole}`");
    }
    "write digits only, without point or exponent".to_owned()
}

/// Where a whole number is due, and a text is.
pub(super) fn on_count_as_text(text: &str) -> String {
    let is_digits = |text: &str| {
        (1..16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    if text.strip_suffix(',').is_some_and(is_digits) {
        return "remove the comma: a line ends without one".to_owned();
    }
    let number = text.trim_start_matches('0');
    if number.len() < text.len() && is_digits(number) {
        return format!("write it without a zero in front: `{number}`");
    }
    "write digits only, without quotes, separators or units".to_owned()
}

/// For a key that has no place where it is; `also` may stand there as well, as other dialects write it.
pub(super) fn on_key(key: &str, known: &[&str], also: &[&str]) -> String {
    if let Some(before) = glued(key)
        && known.contains(&before)
    {
        return space_after(before);
    }
    if key.starts_with(|char: char| char.is_whitespace() && char != ' ') {
        return "indent with plain spaces: the key begins with another kind of space".to_owned();
    }
    if known
        .iter()
        .any(|key| matches!(*key, "requests_per_minute" | "per_agent"))
        && key.starts_with(['r', 't'])
        && let Some(help) = on_window(key)
    {
        return help;
    }
    if let Some(home) = schema::home(key).filter(|_| !known.contains(&key)) {
        return format!("write it under `{home}`");
    }
    match schema::nearest(key, known).or_else(|| schema::nearest(key, also)) {
        Some(key) => format!("did you mean `{key}`?"),
        None => {
            let known: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
            format!("known here: {}", known.join(", "))
        }
    }
}

/// For a key of a section that other dialects write, if it is near to one of theirs.
pub(super) fn on_key_of_dialect(key: &str, known: &[&str]) -> Option<String> {
    if known.iter().any(|known| known.ends_with("_per_day"))
        && let Some(help) = on_window(key)
    {
        return Some(help);
    }
    schema::nearest(key, known).map(|near| format!("did you mean `{near}`?"))
}

/// For a limit such as `requests_per_month`, by other windows than there are.
pub(super) fn on_window(key: &str) -> Option<String> {
    let (unit, window) = key.split_once("_per_")?;
    let window = window.strip_suffix('s').unwrap_or(window);
    let is_other = matches!(
        window,
        "second" | "sec" | "week" | "month" | "quarter" | "year"
    );
    let is_limit = matches!(
        unit,
        "requests" | "tokens" | "max" | "max_requests" | "max_tokens"
    );
    (is_other && is_limit).then(|| {
        format!(
            "there is no such window; use `{unit}_per_minute`, `{unit}_per_hour` or `{unit}_per_day`"
        )
    })
}

/// Of a key that has one value only.
pub(super) fn on_deny_all_other(field: &Field<'_>) -> (String, &'static str) {
    let not = match &field.node.value {
        Value::Bool(value) => format!("`{value}`"),
        Value::Text(text) => format!("the text `{}`", shown(text)),
        _ => field.node.described().to_owned(),
    };
    let help = match field.node.text() {
        Some("true") => "remove the quotes",
        _ => {
            "write `true` to refuse every host that isn't in `allowed_domains`; without both, every host is allowed"
        }
    };
    (format!("must be `true`, not {not}"), help)
}

/// Where a parser gave up, `begun` being the line on which what it was about begins.
pub(super) fn on_syntax(
    text: &str,
    format: Format,
    message: &str,
    at: Option<(usize, usize)>,
    begun: Option<usize>,
) -> String {
    let (table, other) = match format {
        Format::Yaml => (
            YAML,
            "check the indentation, and quote a value that holds `: ` or ` #` or begins with a special character",
        ),
        Format::Json => (JSON, "check the quotes, commas and brackets before it"),
    };
    if let (Format::Yaml, Some((line, column))) = (format, at) {
        // The line that doesn't fit is mostly the one after.
        let (mut last, mut before) = ("", "");
        for line in text.lines().take(line).filter(|line| !is_blank(line)) {
            (before, last) = (last, line);
        }
        if let Some(key) = glued_in_line(last).or_else(|| glued_in_line(before)) {
            return space_after(key);
        }
        let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let mut chars = line.char_indices().skip(column.saturating_sub(1));
        let (end, char) = chars
            .next()
            .map_or((line.len(), ' '), |(at, char)| (at, char));
        let word = line.get(..end).unwrap_or_default();
        let word = word.rsplit(|char: char| !is_word(char)).next();
        if message.contains("unexpected ':'")
            && let Some(key) = word.filter(|word| is_known(word))
        {
            return space_after(key);
        }
        if char == ',' && message.contains(NO_CONTENT) {
            return "write an entry before the comma, or remove the comma".to_owned();
        }
        let rest = line.get(end..).unwrap_or_default();
        let rest = rest.strip_prefix(',').map(str::trim_start);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#')) {
            return "remove the comma: a line ends without one".to_owned();
        }
        if char == '\t' && word_before(line, end) == "-" {
            return "put a space after the `-`, not a tab".to_owned();
        }
        let item = line.trim_start().trim_start_matches("- ");
        let star = [": *", "[*", ", *"].iter().any(|star| line.contains(star));
        if star || item.starts_with('*') {
            return "quote an entry that begins with `*`, as in \"*.example.com\"".to_owned();
        }
        if line.trim_start_matches(' ').starts_with('\t') {
            return "indent with spaces: YAML takes no tabs there".to_owned();
        }
    }
    let mut table = table.iter();
    let found = table.find(|(part, _)| message.contains(part));
    let help = found.map_or(other, |(_, help)| help);
    match begun {
        Some(line) if help.contains("close the") => format!("{help}, opened on line {line}"),
        _ => help.to_owned(),
    }
}

/// What stands before a place of a line, with nothing around it.
fn word_before(line: &str, end: usize) -> &str {
    let before = line.get(..end).unwrap_or_default();
    before.rsplit(' ').next().unwrap_or_default()
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The key of a text such as `allowed_models:[a]`, which YAML takes for one word.
fn glued(text: &str) -> Option<&str> {
    let (key, value) = text.split_once(':')?;
    let is_key = (1..64).contains(&key.len()) && key.chars().all(is_word);
    let begins = |char: char| !char.is_whitespace() && !matches!(char, ':' | '/' | '*');
    (is_key && value.starts_with(begins)).then_some(key)
}

/// The same of a line, of keys alone that are known: entries such as `files:read` are written so too.
fn glued_in_line(line: &str) -> Option<&str> {
    let line = line.trim_start_matches([' ', '-', '{']);
    glued(line).filter(|key| is_known(key))
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_'
}

fn is_known(key: &str) -> bool {
    schema::is_of_rules(key) || is_limit(key)
}

fn space_after(key: &str) -> String {
    format!("put a space after the colon of `{key}:`")
}

/// What the YAML parser says of a list or mapping without an entry where one is due.
const NO_CONTENT: &str = "did not find expected node content";

/// Part of what the YAML parser says, and what to do about it.
const YAML: &[(&str, &str)] = &[
    (
        "mapping values are not allowed",
        "check the indentation of this line and the one before; quote a value that holds `: `",
    ),
    (
        "did not find expected key",
        "begin the keys of one mapping in the same column; quote a value whole or not at all",
    ),
    (
        "did not find expected '-' indicator",
        "begin the entries of a list with `- ` in the same column, and no key among them",
    ),
    (
        "expected ',' or ']'",
        "put commas between entries, and close the list with `]`",
    ),
    (
        "expected ',' or '}'",
        "put commas between keys, and close the mapping with `}`",
    ),
    (
        NO_CONTENT,
        "close what is open with `]` or `}`; quote an entry that begins with a special character",
    ),
    ("unexpected end of stream", "close the quotes"),
    (
        "unexpected document indicator",
        "close the quotes before it",
    ),
    (
        "cannot start any token",
        "quote a value that begins with `@`, `%` or a backquote",
    ),
    (
        "block sequence entries are not allowed",
        "begin a list on the line below its key, or write it as in `[one, two]`",
    ),
    (
        "could not find expected ':'",
        "write `: ` after each key, and quote text that takes several lines",
    ),
    (
        "unexpected ':'",
        "put a space after the colon, or quote the text",
    ),
    (
        "escape c",
        "write `\\\\` for a backslash, or use single quotes, in which it is itself",
    ),
    (
        "irective",
        "remove the line that begins with `%`: a policy needs none",
    ),
    (
        "YAML document",
        "remove the line that begins with `%`: a policy needs none",
    ),
    (
        "document start",
        "remove the line that begins with `%`: a policy needs none",
    ),
    (
        "invalid value",
        "remove the tag; quote a value that is meant as text",
    ),
    (
        "alphabetic or numeric character",
        "quote an entry that begins with `*` or `&`",
    ),
];

/// The same of the JSON parser.
const JSON: &[(&str, &str)] = &[
    (
        "EOF",
        "close what is open: a quote, `]` or `}` is missing at the end",
    ),
    ("trailing comma", "remove the comma before the bracket"),
    ("key must be a string", "write keys in double quotes"),
    (
        "expected `,`",
        "put commas between entries; JSON takes no comments",
    ),
    ("expected `:`", "write `:` after each key"),
    (
        "expected value",
        "write text in double quotes, and nothing but JSON in the file",
    ),
    ("trailing characters", "keep one document in a file"),
    (
        "control character",
        "write it as an escape, as in `\\n`, or close the quotes before it",
    ),
    (
        "escape",
        "write `\\\\` for a backslash, and other characters as themselves",
    ),
    (
        "invalid number",
        "write digits without a zero or `+` in front",
    ),
];
