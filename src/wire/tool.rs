//! Tool ids: what a request or an answer calls a tool, and which names mean the same one.

/// How a tool was declared or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A function or custom tool, which the client executes.
    Function,
    /// A tool that the provider runs; its `type` is its name.
    Hosted,
    /// A tool of an MCP server, named `mcp:label/tool`, or `mcp:label/*` for all of them.
    Mcp,
    /// A `type` that nobody here knows: it needs an allow entry of its own wherever tools are restricted.
    Unknown,
}

/// One mention of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// The canonical id.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The name without its namespace, or the server's label without a tool: an entry that blocks this blocks the tool.
    pub(crate) short_name: Option<String>,
}

/// An MCP server that a request brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mcp {
    pub(crate) label: String,
    pub(crate) url: Option<String>,
    pub(crate) connector: Option<String>,
    pub(crate) tunnel: bool,
    /// The tools that may be used; `None` for all.
    pub(crate) tools: Option<Vec<String>>,
    /// The definition says where the server is, rather than naming one that was defined elsewhere.
    pub(crate) placed: bool,
}

impl Tool {
    pub(crate) fn function(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Function,
            short_name: None,
        }
    }

    /// The tool as part of a namespace: `namespace.name`.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        if !namespace.is_empty() {
            self.short_name = Some(std::mem::take(&mut self.name));
            self.name = format!(
                "{namespace}.{}",
                self.short_name.as_deref().unwrap_or_default()
            );
        }
        self
    }

    /// A tool of an MCP server; `None` for all of its tools.
    pub(crate) fn mcp(label: &str, tool: Option<&str>) -> Self {
        Self {
            name: format!("mcp:{label}/{}", tool.unwrap_or("*")),
            kind: Kind::Mcp,
            short_name: Some(format!("mcp:{label}")),
        }
    }

    /// A tool as a person writes it: an MCP tool is known by its prefix.
    pub(crate) fn asked(name: &str) -> Self {
        match name
            .strip_prefix("mcp:")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "*")))
        {
            Some((label, tool)) => Self::mcp(label, (tool != "*").then_some(tool)),
            None => Self::function(name),
        }
    }

    /// A tool named by its `type`.
    pub(crate) fn typed(name: &str) -> Self {
        let kind = if hosted_family(name).is_some() {
            Kind::Hosted
        } else {
            Kind::Unknown
        };
        Self {
            name: name.to_owned(),
            kind,
            short_name: None,
        }
    }
}

/// The tools that providers host (API reference, create response, `tools`).
const HOSTED: &[&str] = &[
    "apply_patch",
    "code_interpreter",
    "computer",
    "computer_use",
    "file_search",
    "image_generation",
    "local_shell",
    "mcp",
    "programmatic_tool_calling",
    "shell",
    "tool_search",
    "web_search",
];

/// The hosted tool that a name stands for: `web_search`, `web_search_call`, `web_search_preview` and
/// `web_search_preview_2025_03_11` are one tool, so an entry for one of them is an entry for all.
pub(crate) fn hosted_family(name: &str) -> Option<&'static str> {
    let base = without_date(name);
    let base = base.strip_suffix("_call").unwrap_or(base);
    let base = base.strip_suffix("_preview").unwrap_or(base);
    let found = HOSTED.iter().copied().find(|hosted| *hosted == base)?;
    // The three generations of one tool.
    Some(if found == "computer_use" {
        "computer"
    } else {
        found
    })
}

/// The name without a trailing `_YYYY_MM_DD`.
fn without_date(name: &str) -> &str {
    const DATE: usize = "_2025_03_11".len();
    let Some((base, date)) = name
        .len()
        .checked_sub(DATE)
        .and_then(|at| name.split_at_checked(at))
    else {
        return name;
    };
    let is_date = date
        .bytes()
        .zip("_0000_00_00".bytes())
        .all(|(byte, shape)| match shape {
            b'_' => byte == b'_',
            _ => byte.is_ascii_digit(),
        });
    if is_date { base } else { name }
}

/// The connectors that OpenAI documents, each with one fixed place (API reference, create response, `tools`).
pub(crate) fn is_documented_connector(id: &str) -> bool {
    matches!(
        id,
        "connector_dropbox"
            | "connector_gmail"
            | "connector_googlecalendar"
            | "connector_googledrive"
            | "connector_microsoftteams"
            | "connector_outlookcalendar"
            | "connector_outlookemail"
            | "connector_sharepoint"
    )
}

/// Scheme and host (with port) of an absolute URL without credentials.
pub(crate) fn place(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let odd = url.contains('\\') || host.contains('@') || !plain(host) || !plain(scheme);
    (!odd).then_some((scheme, host))
}

/// Names that some clients take for a wrapper around other calls, whose real names are in the arguments.
pub(crate) fn is_wrapper(name: &str) -> bool {
    matches!(name, "parallel" | "multi_tool_use.parallel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_hosted_tool_are_one_family() {
        for name in [
            "web_search",
            "web_search_call",
            "web_search_preview",
            "web_search_2025_08_26",
            "web_search_preview_2025_03_11",
            "web_search_2031_01_01",
        ] {
            assert_eq!(hosted_family(name), Some("web_search"), "{name}");
        }
        assert_eq!(hosted_family("computer_use_preview"), Some("computer"));
        for name in [
            "get_weather",
            "web_search_2",
            "my_web_search",
            "x_search_call",
            "web_search_20250311",
            "Web_search",
            "",
        ] {
            assert_eq!(hosted_family(name), None, "{name}");
        }
    }
}
