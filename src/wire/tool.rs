//! Tool ids: what a request or an answer calls a tool, and which names mean the same one.

use std::borrow::Cow;
use std::ops::Deref;

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

/// One mention of a tool. Its names may be part of the document that mentions it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mention<N> {
    /// The canonical id.
    pub(crate) name: N,
    pub(crate) kind: Kind,
    /// The name without its namespace, or the server's label without a tool: an entry that blocks this blocks the tool.
    pub(crate) short_name: Option<N>,
}

/// A mention that outlives its document.
pub(crate) type Tool = Mention<String>;

/// An MCP server that a request brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mcp<'a> {
    pub(crate) label: Cow<'a, str>,
    pub(crate) url: Option<Cow<'a, str>>,
    pub(crate) connector: Option<Cow<'a, str>>,
    pub(crate) tunnel: bool,
    /// The tools that may be used; `None` for all.
    pub(crate) tools: Option<Vec<Cow<'a, str>>>,
    /// The definition says where the server is, rather than naming one that was defined elsewhere.
    pub(crate) placed: bool,
}

impl<N: Deref<Target = str> + From<String>> Mention<N> {
    /// A function or custom tool.
    pub(crate) const fn named(name: N) -> Self {
        Self {
            name,
            kind: Kind::Function,
            short_name: None,
        }
    }

    /// A tool whose `type` is its name.
    pub(crate) fn of_type(name: N) -> Self {
        let kind = if hosted_family(&name).is_some() {
            Kind::Hosted
        } else {
            Kind::Unknown
        };
        Self {
            name,
            kind,
            short_name: None,
        }
    }

    /// The tool as part of a namespace: `namespace.name`.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        if !namespace.is_empty() {
            let name = format!("{namespace}.{}", &*self.name).into();
            self.short_name = Some(std::mem::replace(&mut self.name, name));
        }
        self
    }
}

impl<N> Mention<N> {
    /// The same mention with other forms of its names, if each has one.
    pub(crate) fn with_names<M>(&self, form: impl Fn(&N) -> Option<M>) -> Option<Mention<M>> {
        let short_name = match &self.short_name {
            Some(name) => Some(form(name)?),
            None => None,
        };
        Some(Mention {
            name: form(&self.name)?,
            kind: self.kind,
            short_name,
        })
    }
}

impl From<Tool> for Mention<Cow<'_, str>> {
    fn from(tool: Tool) -> Self {
        Self {
            name: Cow::Owned(tool.name),
            kind: tool.kind,
            short_name: tool.short_name.map(Cow::Owned),
        }
    }
}

impl Tool {
    pub(crate) fn function(name: impl Into<String>) -> Self {
        Self::named(name.into())
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
        Self::of_type(name.to_owned())
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
