//! Lists of tools that were read before.
//!
//! An agent sends the definitions of its tools with every request, byte for byte the same, and they are most of what
//! there is to read in one. A list that was read is kept, and one that is the same is not read again.
//!
//! Why that is sound: where a JSON array ends is told by its own bytes. A document that goes on, where a list is due,
//! with the bytes of a list that was read whole, has that list there and nothing else; and what a list declares depends
//! on nothing around it but on how deep it may nest. So the depth must be the same, and every byte is compared: there is
//! no hash that somebody could make collide.
//!
//! What is kept is the caller's data, in the memory of the thread that read it, until other lists take its place. So only
//! lists of nothing but functions and custom tools are kept, whose documented members hold no credentials. Whatever else a
//! tool may be, such as an MCP server or a shell that is given secrets, is read each time.
//!
//! Once there is no room, only one in a few unknown lists takes the place of a known one: where more agents than lists take
//! turns on a thread, each would otherwise be forgotten just before it comes again.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use super::error::Result;
use super::json::Reader;
use super::request::RequestFacts;
use super::tool::{Kind, Mention};

/// How many lists a thread keeps. A few agents may share one.
const LISTS: usize = 8;
/// One in so many unknown lists is kept when there is no room.
const KEPT: usize = 8;
/// A longer list is read each time, in bytes.
const LONGEST: usize = 32 * 1024;
/// A shorter one costs no more to read than to know, in bytes.
const SHORTEST: usize = 64;
/// A list that declares more tools isn't kept.
const MOST_TOOLS: usize = 256;

/// A list and what it declares, by the places of the names in it.
struct Known {
    list: Box<[u8]>,
    depth: usize,
    tools: Box<[Mention<Range<usize>>]>,
}

#[derive(Default)]
struct Lists {
    known: Vec<Known>,
    /// Unknown lists that found no room.
    unknown: usize,
    /// The one that makes room for the next.
    oldest: usize,
}

thread_local! {
    static LISTS_READ: RefCell<Lists> = RefCell::default();
}

/// Reads a list of tools by `read`, or knows it.
pub(super) fn read<'a, 's>(
    r: &mut Reader<'a, 's>,
    facts: &mut RequestFacts<'a>,
    read: impl FnOnce(&mut Reader<'a, 's>, &mut RequestFacts<'a>) -> Result<()>,
) -> Result<()> {
    r.kind()?;
    let (rest, depth) = (r.rest(), r.depth());
    let length = LISTS_READ.try_with(|lists| lists.try_borrow().ok()?.declare(rest, depth, facts));
    if let Ok(Some(length)) = length {
        r.step_over(length);
        return Ok(());
    }
    let before = (facts.tools.len(), facts.mcp.len(), facts.more_models.len());
    let start = r.position();
    read(r, facts)?;
    let list = rest.get(..r.position() - start).unwrap_or_default();
    // What else it says isn't kept, so that it must be read.
    if (facts.mcp.len(), facts.more_models.len()) == (before.1, before.2) {
        let tools = facts.tools.get(before.0..).unwrap_or_default();
        let _ = LISTS_READ.try_with(|lists| {
            if let Ok(mut lists) = lists.try_borrow_mut() {
                lists.keep(list, depth, tools);
            }
        });
    }
    Ok(())
}

impl Lists {
    /// Declares what the list does that these bytes begin with, if it is known; returns its length.
    fn declare<'a>(
        &self,
        rest: &'a [u8],
        depth: usize,
        facts: &mut RequestFacts<'a>,
    ) -> Option<usize> {
        let is = |known: &&Known| known.depth == depth && rest.starts_with(&known.list);
        let known = self.known.iter().find(is)?;
        let declared = facts.tools.len();
        for tool in &known.tools {
            let text = |place: &Range<usize>| std::str::from_utf8(rest.get(place.clone())?).ok();
            match tool.with_names(|place| text(place).map(Cow::Borrowed)) {
                Some(tool) if facts.has_room() => facts.declare(tool),
                _ => {
                    facts.tools.truncate(declared);
                    return None;
                }
            }
        }
        Some(known.list.len())
    }

    fn keep(&mut self, list: &[u8], depth: usize, tools: &[Mention<Cow<'_, str>>]) {
        let functions = tools.iter().all(|tool| tool.kind == Kind::Function);
        if !functions || tools.len() > MOST_TOOLS || !(SHORTEST..=LONGEST).contains(&list.len()) {
            return;
        }
        #[cfg(any(test, fuzzing))]
        if super::shape::reference::is_wanted() {
            return;
        }
        if self.known.len() >= LISTS {
            self.unknown = self.unknown.wrapping_add(1);
            if !self.unknown.is_multiple_of(KEPT) {
                return;
            }
        }
        let tools = tools
            .iter()
            .map(|tool| tool.with_names(|name| place(list, name)));
        // A name that was written with escapes, or made up of two, is not in the list as it is.
        let Some(tools) = tools.collect() else { return };
        let known = Known {
            list: list.into(),
            depth,
            tools,
        };
        match self.known.get_mut(self.oldest) {
            Some(oldest) => *oldest = known,
            None => self.known.push(known),
        }
        self.oldest = (self.oldest + 1) % LISTS;
    }
}

/// Where in a list a name is, if it is part of it.
fn place(list: &[u8], name: &str) -> Option<Range<usize>> {
    let start = name.as_ptr().addr().checked_sub(list.as_ptr().addr())?;
    let place = start..start.checked_add(name.len())?;
    (list.get(place.clone())? == name.as_bytes()).then_some(place)
}

#[cfg(fuzzing)]
pub(super) fn forget() {
    LISTS_READ.take();
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::super::json::Scratch;
    use super::super::request::read;

    /// What a body declares, read by a thread that knows this body, or none.
    fn read_by(known: Option<&str>, body: &str) -> String {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                if let Some(known) = known {
                    read(known.as_bytes(), fields::RUN, &mut Scratch::default()).unwrap();
                }
                let read = read(body.as_bytes(), fields::RUN, &mut Scratch::default());
                format!("{read:?}")
            });
            reader.join().unwrap()
        })
    }

    fn lists_kept(body: &str) -> usize {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                read(body.as_bytes(), fields::RUN, &mut Scratch::default()).unwrap();
                super::LISTS_READ.with_borrow(|lists| lists.known.len())
            });
            reader.join().unwrap()
        })
    }

    const TOOLS: &str = r#"[{"type":"function","function":{"name":"file_read","parameters":{"type":"object"}}},{"type":"custom","custom":{"name":"calculator"}}]"#;

    fn body(tools: &str) -> String {
        format!(r#"{{"model":"o3","tools":{tools},"messages":[]}}"#)
    }

    #[test]
    fn a_known_list_declares_what_it_declared() {
        let body = body(TOOLS);
        assert_eq!(lists_kept(&body), 1);
        let known = read_by(Some(&body), &body);
        assert!(
            known.contains("file_read") && known.contains("calculator"),
            "{known}"
        );
        assert_eq!(known, read_by(None, &body));
        // Elsewhere in another body, and not at its end.
        let other = format!(
            r#"{{"messages":[{{"role":"user","content":"x"}}], "tools" : {TOOLS} ,"model":"o4"}}"#
        );
        assert_eq!(read_by(Some(&body), &other), read_by(None, &other));
    }

    #[test]
    fn whatever_byte_differs_the_list_is_read() {
        let known = body(TOOLS);
        let start = known.find('[').unwrap();
        for at in start..start + TOOLS.len() {
            for other in ["", "x", "]", "}", "\"", "\\", "\\u0078", ",", " "] {
                let mut changed = known.clone();
                changed.replace_range(at..=at, other);
                assert_eq!(
                    read_by(Some(&known), &changed),
                    read_by(None, &changed),
                    "{changed}"
                );
            }
        }
    }

    #[test]
    fn a_list_that_is_cut_off_or_goes_on_is_not_the_known_one() {
        let known = body(TOOLS);
        for end in known.find('[').unwrap()..known.len() {
            let cut = known.get(..end).unwrap();
            assert_eq!(read_by(Some(&known), cut), read_by(None, cut), "{cut}");
        }
        let longer = known.replace(TOOLS, &format!("{TOOLS},[]"));
        assert_eq!(read_by(Some(&known), &longer), read_by(None, &longer));
    }

    #[test]
    fn as_deep_as_it_was_and_no_deeper() {
        let nested = format!("{}{}", "[".repeat(122), "]".repeat(122));
        let tools =
            format!(r#"[{{"type":"function","function":{{"name":"a","parameters":{nested}}}}}]"#);
        let known = body(&tools);
        assert_eq!(lists_kept(&known), 1);
        let deeper =
            format!(r#"{{"thread":{{"messages":[{{"attachments":[{{"tools":{tools}}}]}}]}}}}"#);
        let refused = read_by(Some(&known), &deeper);
        assert!(refused.contains("deeper than 128"), "{refused}");
        assert_eq!(refused, read_by(None, &deeper));
    }

    #[test]
    fn what_brings_servers_models_or_escaped_names_is_not_kept() {
        let filler = "x".repeat(100);
        for tools in [
            format!(
                r#"[{{"type":"mcp","server_label":"a","server_url":"https://a.example","headers":{{"authorization":"{filler}"}}}}]"#
            ),
            format!(r#"[{{"type":"image_generation","model":"gpt-image-1","note":"{filler}"}}]"#),
            format!(
                r#"[{{"type":"function","function":{{"name":"\u0061b","description":"{filler}"}}}}]"#
            ),
            format!(
                r#"[{{"type":"namespace","name":"crm","tools":[{{"type":"function","name":"a","description":"{filler}"}}]}}]"#
            ),
            format!(r#"[{{"name":"no_type","description":"{filler}"}}]"#),
            format!(
                r#"[{{"type":"shell","environment":{{"domain_secrets":[{{"name":"KEY","value":"{filler}"}}]}}}}]"#
            ),
            format!(
                r#"[{{"type":"function","function":{{"name":"a","description":"{filler}"}}}},{{"type":"mcp_2","authorization":"{filler}"}}]"#
            ),
            r#"[{"type":"function","function":{"name":"a"}}]"#.to_owned(),
            format!(
                r#"[{{"type":"function","function":{{"name":"a","description":"{}"}}}}]"#,
                "x".repeat(40_000)
            ),
        ] {
            let body = body(&tools);
            assert_eq!(lists_kept(&body), 0, "{tools}");
            assert_eq!(read_by(Some(&body), &body), read_by(None, &body));
        }
    }

    #[test]
    fn of_more_lists_than_there_is_room_for_most_stay_known() {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                let lists: Vec<_> = (0..=super::LISTS)
                    .map(|number| TOOLS.replace("file_read", &format!("file_{number}")))
                    .collect();
                let known = |list: &String| {
                    super::LISTS_READ.with_borrow(|known| {
                        known
                            .known
                            .iter()
                            .any(|known| *known.list == *list.as_bytes())
                    })
                };
                let mut hits = 0;
                for turn in 0..20 {
                    for list in &lists {
                        hits += usize::from(turn >= 10 && known(list));
                        let body = body(list);
                        read(body.as_bytes(), fields::RUN, &mut Scratch::default()).unwrap();
                    }
                }
                (hits, 10 * lists.len())
            });
            let (hits, of) = reader.join().unwrap();
            assert!(hits * 4 > of * 3, "{hits} of {of}");
        });
    }

    #[test]
    fn a_thread_keeps_a_few_lists_and_no_more() {
        std::thread::scope(|threads| {
            let reader = threads.spawn(|| {
                for number in 0..100 {
                    let tools = TOOLS.replace("file_read", &format!("file_{number}"));
                    let body = body(&tools);
                    for _ in 0..2 {
                        let mut scratch = Scratch::default();
                        let facts = read(body.as_bytes(), fields::RUN, &mut scratch).unwrap();
                        assert_eq!(&*facts.tools[0].name, format!("file_{number}"));
                    }
                }
                super::LISTS_READ.with_borrow(|lists| lists.known.len())
            });
            assert_eq!(reader.join().unwrap(), super::LISTS);
        });
    }
}
