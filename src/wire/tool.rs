//! Tool ids: what a request or an answer calls a tool, and which names mean the same one.

/// How a tool was declared or called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A function or custom tool, which the client executes.
    Function,
    /// A tool that the provider runs; its `type` is its name.
    Hosted,
    /// A `type` that nobody here knows: it needs an allow entry of its own wherever tools are restricted.
    Unknown,
}

/// One mention of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

impl Tool {
    pub(crate) fn function(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Function,
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
